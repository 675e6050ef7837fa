"""The Frechet distance against numpy and scipy, both ways to it."""

from __future__ import annotations

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from ric.errors import RicError
from ric.metrics.fid import fid_from_features, frechet_distance, jackknife_fid, unpaired_fid


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


# --- the jackknife -------------------------------------------------------------------------------


def test_the_jackknife_leaves_out_each_tenth_once():
    a, b = features(11, 25, 4), features(12, 25, 4)
    jackknife = jackknife_fid(a, b, seed=3)
    tenths = np.array_split(np.random.default_rng(3).permutation(25), 10)
    assert sorted(np.concatenate(tenths)) == list(range(25))
    kept = [[i for i in range(25) if i not in tenth] for tenth in tenths]
    by_hand = np.array([by_scipy(a[rows], b[rows]) for rows in kept])
    np.testing.assert_allclose(jackknife.left_out, by_hand, rtol=1e-8)
    assert jackknife.value == fid_from_features(a, b).value
    error = np.sqrt(9 / 10 * sum((by_hand - by_hand.mean()) ** 2))
    assert jackknife.error == pytest.approx(error, rel=1e-8)
    low, high = jackknife.interval
    reach = scipy.stats.t.ppf(0.975, 9) * error
    assert (low, high) == pytest.approx((jackknife.value - reach, jackknife.value + reach))


def drawn(generator: np.random.Generator, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    target = generator.normal(size=(count, 4))
    return 0.5 * target + generator.normal(size=target.shape) + 0.3, target


def test_the_jackknife_s_interval_covers_the_expected_fid_at_this_n():
    generator = np.random.default_rng(0)
    expected = np.mean([fid_from_features(*drawn(generator)).value for _ in range(1000)])
    intervals = [jackknife_fid(*drawn(generator), seed=trial).interval for trial in range(300)]
    covered = np.mean([low <= expected <= high for low, high in intervals])
    assert 0.91 <= covered <= 0.98


def test_sets_that_make_no_pairs_leave_out_a_tenth_each_and_cover_too():
    def two(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return drawn(generator)[0], generator.normal(size=(200, 4))

    generator = np.random.default_rng(1)
    expected = np.mean([fid_from_features(*two(generator)).value for _ in range(1000)])
    found = [jackknife_fid(*two(generator), seed=trial, paired=False) for trial in range(300)]
    assert {len(one.left_out) for one in found} == {10}
    covered = np.mean([one.interval[0] <= expected <= one.interval[1] for one in found])
    assert 0.91 <= covered <= 0.98


def test_a_set_longer_than_wide_gives_the_same_fid_by_its_triangle():
    few, many = features(14, 20, 32), features(15, 300, 32)
    assert fid_from_features(few, many).value == pytest.approx(by_scipy(few, many), rel=1e-8)
    assert fid_from_features(many, few).value == pytest.approx(by_scipy(few, many), rel=1e-8)


def test_a_bootstrap_of_fid_would_lie_above_the_fid_itself():
    # why there is none: doubled pictures make a narrower set
    a, b = np.split(features(13, 120), 2)
    generator = np.random.default_rng(0)
    picks = [generator.integers(60, size=60) for _ in range(50)]
    resampled = [fid_from_features(a[rows], b[rows]).value for rows in picks]
    assert min(resampled) > fid_from_features(a, b).value


def test_two_editors_alike_differ_less_in_fid_than_each_scatters():
    generator = np.random.default_rng(2)
    one, target = drawn(generator, 200)
    ours = jackknife_fid(one, target)
    theirs = jackknife_fid(one + 0.05 * generator.normal(size=one.shape), target)
    apart = ours.minus(theirs)
    assert apart.value == pytest.approx(ours.value - theirs.value)
    assert apart.error < 0.5 * ours.error


def test_fid_of_halves_is_the_mean_of_two_that_no_pair_meets_in():
    a, b = features(0, 41), features(1, 41)
    by_hand = [fid_from_features(a[k::2], b[1 - k :: 2]).value for k in (0, 1)]
    assert unpaired_fid(a, b).value == pytest.approx(np.mean(by_hand))
    assert len(unpaired_fid(a, b).left_out) == 10
    assert unpaired_fid(a[:5], b[:5]).interval is None
    with pytest.raises(RicError, match="FID of halves needs 4 samples or more, and has 3"):
        unpaired_fid(a[:3], b[:3])


def test_an_editor_tied_to_its_own_targets_has_a_better_fid_and_no_better_fid_of_halves():
    generator, sure = np.random.default_rng(0), dict.fromkeys((jackknife_fid, unpaired_fid), 0)
    for trial in range(40):
        target, free, noise = generator.normal(size=(3, 120, 12))
        tied = 0.9 * target + (1 - 0.9**2) ** 0.5 * noise
        for of in sure:
            ours, theirs = (of(made, target, seed=trial) for made in (tied, free))
            low, high = ours.minus(theirs).interval
            sure[of] += high < 0 or low > 0
    # the truth is 0: both editors draw from the targets' distribution
    assert sure[jackknife_fid] > 30
    assert sure[unpaired_fid] <= 5


def test_two_samples_have_a_fid_and_no_spread():
    jackknife = jackknife_fid(features(0, 2), features(1, 2))
    assert jackknife.value > 0
    assert jackknife.error is None
    assert jackknife.interval is None
