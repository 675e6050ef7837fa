"""The Inception score against torch-fidelity's own function and against the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

from ric.errors import RicError
from ric.metrics.inception_score import inception_score


def logits(count: int, classes: int = 20) -> torch.Tensor:
    return 2 * torch.randn(count, classes, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(("count", "splits"), [(50, 10), (53, 10), (10, 10), (37, 1), (25, 3)])
def test_mean_and_std_are_torch_fidelitys(count, splits):
    theirs = isc_features_to_metric(logits(count), splits=splits)
    ours = inception_score(logits(count), splits=splits)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-9, abs=1e-12)


def test_fewer_pictures_than_splits_give_a_number_where_torch_fidelity_gives_nan():
    assert math.isnan(isc_features_to_metric(logits(4), splits=10)["inception_score_mean"])
    ours = inception_score(logits(4), splits=10)
    assert ours.mean == pytest.approx(inception_score(logits(4), splits=4).mean)
    assert ours.n == 4


def test_pictures_of_sure_and_different_classes_score_the_number_of_classes():
    sure = 100 * torch.eye(5)
    assert inception_score(sure, splits=1).mean == pytest.approx(5)


def test_pictures_of_one_class_score_one():
    assert inception_score(torch.zeros(30, 8)).mean == pytest.approx(1)


def test_no_picture_has_no_score():
    with pytest.raises(RicError, match="1 picture or more, and has 0"):
        inception_score(torch.zeros(0, 8))


def test_unless_told_otherwise_there_are_ten_splits_as_in_torch_fidelity():
    theirs = isc_features_to_metric(logits(50))
    assert inception_score(logits(50)).mean == pytest.approx(theirs["inception_score_mean"])
    assert inception_score(logits(50)).std == pytest.approx(theirs["inception_score_std"])
