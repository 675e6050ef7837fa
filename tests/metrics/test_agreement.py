"""Rank correlations of two judges: scipy's numbers, with ties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ric.metrics.agreement import kendall, spearman


@pytest.mark.parametrize("levels", [3, 11, 10_000])
@pytest.mark.parametrize("count", [2, 7, 200])
def test_both_are_scipys_however_many_scores_are_equal(levels, count):
    random = np.random.default_rng(levels + count)
    first = random.integers(0, levels, count).astype(float)
    second = np.round(0.5 * first + random.normal(0, levels / 3, count))
    first[0], second[0] = levels, -levels  # neither is constant
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert kendall(first, second) == pytest.approx(stats.kendalltau(first, second).statistic)


def test_any_increasing_change_of_a_judges_scale_leaves_both_as_they_are():
    first, second = [0.0, 3.0, 3.0, 7.5, 9.0], [1.0, 1.0, 4.0, 2.0, 5.0]
    stretched = [value**3 + 2 for value in first]
    assert spearman(stretched, second) == pytest.approx(spearman(first, second))
    assert kendall(stretched, second) == pytest.approx(kendall(first, second))
    assert kendall(first, first) == pytest.approx(1)
    assert spearman(first, [-value for value in first]) == pytest.approx(-1)


@pytest.mark.parametrize("scores", [[4.0], [5.0, 5.0, 5.0]])
def test_a_judge_that_orders_nothing_has_no_agreement(scores):
    others = [float(number) for number in range(len(scores))]
    for correlation in (spearman, kendall):
        assert correlation(scores, others) is None
        assert correlation(others, scores) is None
