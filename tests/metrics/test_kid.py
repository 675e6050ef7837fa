"""KID against the double sums, clean-fid and torch-fidelity, and its interval on known sets."""

from __future__ import annotations

import cleanfid.fid
import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from ric.errors import RicError
from ric.metrics.kernel_sums import SUBSETS
from ric.metrics.kid import kid_from_features

WIDTH = 8


def features(seed: int, count: int = 30, width: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) + rng.normal(size=width)


def by_hand(a: np.ndarray, b: np.ndarray, *, skip_pairs: bool = False) -> float:
    """The estimator written out, sum by sum."""
    count, width = a.shape

    def mean(x: np.ndarray, y: np.ndarray, *, apart: bool) -> float:
        kernels = [
            (x[i] @ y[j] / width + 1) ** 3
            for i in range(count)
            for j in range(count)
            if i != j or not apart
        ]
        return float(np.mean(kernels))

    across = mean(a, b, apart=skip_pairs)
    return mean(a, a, apart=True) + mean(b, b, apart=True) - 2 * across


def test_kid_is_the_formula_written_out_and_both_libraries():
    a, b = features(0), features(1)
    ours = kid_from_features(a, b).value
    assert ours == pytest.approx(by_hand(a, b), rel=1e-10)
    # of subsets as large as the set there is only one
    assert ours == pytest.approx(cleanfid.fid.kernel_distance(a, b, num_subsets=1), rel=1e-10)
    library = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=1, kid_subset_size=30, verbose=False
    )
    assert ours == pytest.approx(library["kernel_inception_distance_mean"], rel=1e-10)


def test_kid_of_sets_that_make_no_pairs_is_clean_fids_and_its_interval_covers():
    a, b = features(0, 30), features(1, 47)
    kid = kid_from_features(a, b, paired=False)
    kernels = [(x @ y.T / 32 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    within = [
        (kernel.sum() - np.trace(kernel)) / (n * (n - 1))
        for kernel, n in zip(kernels, (30, 47), strict=False)
    ]
    assert kid.value == pytest.approx(sum(within) - 2 * kernels[2].mean(), rel=1e-10)
    assert kid.bias == 0
    draw = np.random.default_rng(2)
    truth, trials = [], []
    for trial in range(300):
        ours, theirs = draw.normal(size=(60, 4)) + 0.5, draw.normal(size=(150, 4))
        found = kid_from_features(ours, theirs, seed=trial, paired=False)
        truth.append(found.value)
        trials.append(found.interval)
    mean = np.mean(truth)  # without bias
    assert 0.91 <= np.mean([low <= mean <= high for low, high in trials]) <= 0.98


def test_every_subset_is_the_kid_of_half_of_the_samples():
    a, b = features(2, 12), features(3, 12)
    kid = kid_from_features(a, b, seed=5)
    assert len(kid.subsets) == SUBSETS
    generator = np.random.default_rng(5)
    for value in kid.subsets[:3]:
        half = generator.choice(12, 6, replace=False)
        assert len(set(half)) == 6
        assert value == pytest.approx(by_hand(a[half], b[half]), rel=1e-9)


def test_blocks_of_rows_change_nothing():
    a, b = features(4), features(5)
    whole, blocks = (kid_from_features(a, b, block=block) for block in (2**18, 7 * len(a)))
    assert blocks.value == pytest.approx(whole.value, rel=1e-10)
    np.testing.assert_allclose(blocks.subsets, whole.subsets, rtol=1e-9)


def test_less_the_bias_of_pairs_it_leaves_each_sample_s_own_pair_out():
    a = features(6)
    b = a + 0.3 * features(7)
    kid = kid_from_features(a, b)
    assert kid.bias < 0
    assert kid.value - kid.bias == pytest.approx(by_hand(a, b, skip_pairs=True), rel=1e-9)


def test_a_set_is_at_no_distance_from_itself_but_for_the_bias_of_pairs():
    kid = kid_from_features(features(8), features(8))
    assert kid.value - kid.bias == pytest.approx(0, abs=1e-10)


def test_the_order_of_samples_moves_only_the_drawn_halves():
    a, b = features(9), features(10)
    order = np.random.default_rng(0).permutation(30)
    mixed = kid_from_features(a[order], b[order])
    assert mixed.value == pytest.approx(kid_from_features(a, b).value, rel=1e-9)


def shifted(generator: np.random.Generator, count: int, shift: float, alike: float = 0.0):
    """Two sets of standard normals, the second one moved; `alike` is the correlation of a pair."""
    a = generator.normal(size=(count, WIDTH))
    b = alike * a + np.sqrt(1 - alike**2) * generator.normal(size=a.shape) + shift
    return a, b


def truth(shift: float) -> float:
    """The squared discrepancy of N(0, I) and N(m, I), from the moments of x.y; c is |m|^2."""
    w, c = WIDTH, WIDTH * shift**2
    third = c**3 + 6 * c**2 + 3 * c * w + 6 * c
    of_shifted = 1 + 3 * c / w + 3 * (w + 2 * c + c**2) / w**2 + third / w**3
    return of_shifted + (1 + 3 / w) - 2 * (1 + 3 * (w + c) / w**2)


def covered(count: int, shift: float, alike: float = 0.0, *, unbiased: bool = False) -> float:
    generator, hits = np.random.default_rng(0), 0
    for trial in range(300):
        kid = kid_from_features(*shifted(generator, count, shift, alike), seed=trial)
        low, high = kid.interval
        bias = kid.bias if unbiased else 0.0
        hits += low - bias <= truth(shift) <= high - bias
    return hits / 300


@pytest.mark.parametrize("count", [50, 100])
def test_the_interval_covers_the_truth_19_times_in_20(count):
    assert 0.92 <= covered(count, 0.5) <= 0.98


def test_of_equal_distributions_the_interval_is_too_wide_rather_than_too_narrow():
    assert covered(50, 0.0) >= 0.95


def test_of_samples_whose_pairs_are_alike_it_covers_once_their_bias_is_taken_off():
    assert covered(50, 0.5, 0.7) < 0.9
    assert 0.92 <= covered(50, 0.5, 0.7, unbiased=True) <= 0.98


def test_two_editors_alike_differ_less_than_each_scatters():
    generator = np.random.default_rng(1)
    target, one = shifted(generator, 100, 0.5)
    other = one + 0.05 * generator.normal(size=one.shape)
    ours, theirs = (kid_from_features(made, target) for made in (one, other))
    apart = ours.minus(theirs)
    biases = ours.bias - theirs.bias
    assert apart.value == pytest.approx(ours.value - theirs.value - biases)
    assert np.diff(apart.interval) < 0.2 * np.diff(ours.interval)


def test_an_editor_tied_to_its_own_targets_has_no_better_kid_for_that():
    generator, naive, hits = np.random.default_rng(0), 0, 0
    for trial in range(60):
        target, free = shifted(generator, 60, 0.0)
        tied = 0.9 * target + (1 - 0.9**2) ** 0.5 * generator.normal(size=target.shape)
        ours, theirs = (kid_from_features(made, target, seed=trial) for made in (tied, free))
        apart = ours.minus(theirs)
        naive += ours.value - theirs.value > apart.interval[1] - apart.value
        naive += ours.value - theirs.value < apart.interval[0] - apart.value
        hits += apart.interval[0] <= 0 <= apart.interval[1]
    assert naive > 10  # the plain difference often excludes the truth, 0
    assert hits >= 56


def test_too_few_pictures_have_no_kid_or_no_interval():
    with pytest.raises(RicError, match="KID needs 2 pictures or more on each side, and has 1"):
        kid_from_features(features(0, 1), features(1, 1))
    assert kid_from_features(features(0, 3), features(1, 3)).interval is None
    with pytest.raises(ValueError, match="samples must come in pairs"):
        kid_from_features(features(0, 3), features(1, 4))
