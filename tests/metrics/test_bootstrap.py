"""The interval of a mean covers the truth as often as it says, on distributions that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ric.metrics.bootstrap import bootstrap_interval

Draw = Callable[[np.random.Generator], np.ndarray]


def covered(draw: Draw, truth: float, trials: int = 300) -> float:
    generator = np.random.default_rng(0)
    intervals = [bootstrap_interval(draw(generator), seed=trial) for trial in range(trials)]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda generator: generator.normal(0.9, 0.05, 100), 0.9),
        (lambda generator: generator.beta(8, 2, 100), 0.8),  # as cosines lie: skewed, below 1
        (lambda generator: generator.exponential(0.2, 100), 0.2),  # as LPIPS lies
    ],
    ids=["normal", "beta", "exponential"],
)
def test_the_interval_of_a_mean_covers_it_19_times_in_20(draw, truth):
    assert 0.91 <= covered(draw, truth) <= 0.98


def apart(generator: np.random.Generator) -> np.ndarray:
    """Two editors on the same samples: hard ones are hard for both."""
    hard = generator.beta(8, 2, 100)
    ours = hard + generator.normal(0.01, 0.02, 100)
    theirs = hard + generator.normal(0, 0.02, 100)
    return ours - theirs


def test_the_interval_of_a_paired_difference_covers_it_too_and_is_the_narrower_one():
    assert 0.91 <= covered(apart, 0.01) <= 0.98
    generator = np.random.default_rng(1)
    hard = generator.beta(8, 2, 100)
    ours, theirs = hard + 0.01, hard
    low, high = bootstrap_interval(ours - theirs)
    assert low == pytest.approx(0.01)
    assert high == pytest.approx(0.01)
    assert np.diff(bootstrap_interval(ours)) > 0.01


def test_with_ten_samples_it_is_too_narrow_as_is_known():
    assert 0.85 <= covered(lambda generator: generator.normal(0, 1, 10), 0.0) <= 0.94


def test_unless_told_otherwise_the_mean_is_drawn_a_thousand_times():
    values = np.random.default_rng(3).normal(size=40)
    assert bootstrap_interval(values) == bootstrap_interval(values, resamples=1000)
    assert bootstrap_interval(values) != bootstrap_interval(values, resamples=999)
