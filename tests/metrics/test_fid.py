"""The Frechet distance against numpy and scipy, both ways to it."""

from __future__ import annotations

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from ric.errors import RicError
from ric.metrics.fid import fid_from_features, frechet_distance


def features(seed: int, count: int, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width)) / np.sqrt(width)
    return rng.normal(size=(count, width)) @ mixing + rng.normal(size=width)


def by_scipy(a: np.ndarray, b: np.ndarray) -> float:
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(axis=0) - b.mean(axis=0)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(gap @ gap + np.trace(cov_a + cov_b - 2 * np.real(root)))


@pytest.mark.parametrize(("count_a", "count_b"), [(200, 300), (50, 40)])
def test_covariance_form_is_the_formula_written_out(count_a, count_b):
    a, b = features(0, count_a), features(1, count_b)
    ours = frechet_distance(
        a.mean(axis=0), np.cov(a, rowvar=False), b.mean(axis=0), np.cov(b, rowvar=False)
    )
    assert ours == pytest.approx(by_scipy(a, b), rel=1e-9)
    assert ours == pytest.approx(cleanfid.fid.fid_from_feats(a, b), rel=1e-9)
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
    library = fid_statistics_to_metric(*statistics, verbose=False)
    assert ours == pytest.approx(library["frechet_inception_distance"], rel=1e-9)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize(("count_a", "count_b"), [(12, 12), (12, 300), (300, 5), (2, 2)])
def test_singular_value_form_is_the_root_of_the_product(count_a, count_b):
    a, b = features(0, count_a), features(1, count_b)
    # a root of rank-deficient covariances is exact only to the root of the rounding
    assert fid_from_features(a, b).value == pytest.approx(by_scipy(a, b), rel=1e-5)


def test_both_forms_agree_where_both_can_be_used():
    a, b = features(2, 20), features(3, 30)
    moments = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b)]
    by_covariance = frechet_distance(*moments[0], *moments[1])
    assert fid_from_features(a, b).value == pytest.approx(by_covariance, rel=1e-5)


def test_two_gaussians_in_one_dimension_are_done_by_hand():
    # (mu_a - mu_b)^2 + (sd_a - sd_b)^2
    assert frechet_distance([1.0], [[4.0]], [3.0], [[9.0]]) == pytest.approx(4 + 1)


@pytest.mark.parametrize("count", [6, 100])
def test_a_set_is_at_no_distance_from_itself(count):
    a = features(4, count)
    assert fid_from_features(a, a).value == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("count", [6, 100])
def test_the_order_of_pictures_does_not_matter(count):
    a, b = features(5, count), features(6, count)
    shuffled = np.random.default_rng(0).permutation(a)
    assert fid_from_features(shuffled, b).value == pytest.approx(fid_from_features(a, b).value)


def test_the_distance_is_symmetric_and_counts_both_sides():
    a, b = features(7, 9), features(8, 11)
    there, back = fid_from_features(a, b), fid_from_features(b, a)
    assert there.value == pytest.approx(back.value)
    assert (there.n_a, there.n_b) == (9, 11)


def test_single_precision_features_are_computed_in_double():
    a, b = features(9, 40).astype(np.float32), features(10, 40).astype(np.float32)
    exact = fid_from_features(a.astype(np.float64), b.astype(np.float64))
    assert fid_from_features(a, b) == exact


def test_one_picture_has_no_covariance():
    with pytest.raises(RicError, match="2 pictures or more on each side, and has 1 and 5"):
        fid_from_features(features(0, 1), features(1, 5))
