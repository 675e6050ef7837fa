"""The interval of a mean covers the truth as often as it says, on distributions that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from ric.metrics.intervals import holm, mean_interval, mean_p, p_value, wilson_interval

Draw = Callable[[np.random.Generator], np.ndarray]


def covered(draw: Draw, truth: float, trials: int = 400) -> float:
    generator = np.random.default_rng(0)
    intervals = [mean_interval(draw(generator)) for _ in range(trials)]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def percentiles(values: np.ndarray, seed: int) -> tuple[float, float]:
    """The percentile bootstrap, which is narrower."""
    picks = np.random.default_rng(seed).integers(len(values), size=(500, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


@pytest.mark.parametrize("count", [10, 20, 40, 60])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda generator, count: generator.normal(0.9, 0.05, count), 0.9),
        (lambda generator, count: generator.beta(8, 2, count), 0.8),  # as cosines lie
        (lambda generator, count: generator.exponential(0.2, count), 0.2),  # as LPIPS lies
        (lambda generator, count: generator.laplace(0.0, 1.0, count), 0.0),  # differences
    ],
    ids=["normal", "beta", "exponential", "laplace"],
)
def test_the_interval_of_a_mean_covers_it_19_times_in_20(draw, truth, count):
    assert 0.93 <= covered(lambda generator: draw(generator, count), truth) <= 0.985


def test_a_bootstrap_s_percentiles_would_be_too_narrow_for_skewed_scores():
    generator, hits, of_t, narrow = np.random.default_rng(0), 0, 0, 0
    for trial in range(400):
        values = generator.exponential(0.2, 20)
        low, high = mean_interval(values)
        hits += low <= 0.2 <= high
        low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
        of_t += low <= 0.2 <= high
        low, high = percentiles(values, trial)
        narrow += low <= 0.2 <= high
    assert hits / 400 >= 0.93
    assert narrow < of_t < hits
    assert narrow / 400 < 0.92


def apart(generator: np.random.Generator) -> np.ndarray:
    """Two editors on the same samples: hard ones are hard for both."""
    hard = generator.beta(8, 2, 100)
    ours = hard + generator.normal(0.01, 0.02, 100)
    theirs = hard + generator.normal(0, 0.02, 100)
    return ours - theirs


def test_the_interval_of_a_paired_difference_covers_it_too_and_is_the_narrower_one():
    assert 0.92 <= covered(apart, 0.01) <= 0.98
    generator = np.random.default_rng(1)
    hard = generator.beta(8, 2, 100)
    ours, theirs = hard + 0.01, hard
    low, high = mean_interval(ours - theirs)
    assert low == pytest.approx(0.01)
    assert high == pytest.approx(0.01)
    assert np.diff(mean_interval(ours)) > 0.01


@pytest.mark.parametrize("count", [2, 10, 41])
def test_where_values_lie_evenly_it_is_the_textbook_s_by_student(count):
    half = np.random.default_rng(3).normal(size=count)
    values = np.concatenate([half, -half]) + 0.3  # without skew
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx(tuple(expected))
    assert mean_p(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue)


@pytest.mark.parametrize("skew", [1, -1])
def test_where_values_are_skewed_one_end_is_hall_s_and_the_other_student_s(skew):
    values = skew * np.random.default_rng(3).exponential(size=30)
    told = scipy.stats.ttest_1samp(values, 0)
    student = told.confidence_interval(0.95)
    low, high = mean_interval(values)
    near, far = (low, high) if skew > 0 else (high, low)
    assert near == pytest.approx(student[0] if skew > 0 else student[1])
    # Hall's t of the far end, written out, is Student's quantile
    error = values.std(ddof=1) / 30**0.5
    root_skew = scipy.stats.skew(values) / 30**0.5
    t = (values.mean() - far) / error
    of_hall = t + root_skew * t**2 / 3 + root_skew**2 * t**3 / 27 + root_skew / 6
    assert of_hall == pytest.approx(-skew * scipy.stats.t.ppf(0.975, 29))
    assert mean_p(values) >= told.pvalue


def test_a_weighted_mean_has_the_jackknife_s_error_and_kish_s_degrees_of_freedom():
    generator = np.random.default_rng(0)
    weights = generator.exponential(size=24)
    values = np.tile([0.2, 0.8], 12)
    mean = np.average(values, weights=weights)
    without = [
        np.average(np.delete(values, at), weights=np.delete(weights, at)) for at in range(24)
    ]
    error = (23 / 24 * np.square(np.array(without) - mean).sum()) ** 0.5
    freedom = weights.sum() ** 2 / np.square(weights).sum() - 1
    reach = scipy.stats.t.ppf(0.975, freedom) * error
    low, high = mean_interval(values, weights=weights)
    assert low <= mean - reach + 1e-12
    assert high >= mean + reach - 1e-12
    assert min(mean - low, high - mean) == pytest.approx(reach)
    assert mean_interval(values, weights=np.full(24, 7.0)) == pytest.approx(mean_interval(values))
    # one that outweighs all others says as little as one
    low, high = mean_interval([1.0, 2.0, 1.0], weights=[1e-6, 1.0, 1e-6])
    assert high - low > 1


def relative_errors(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors relative to how much had to change: large where that is little, as in drawn scenes."""
    needed = generator.lognormal(0, 0.9, count)
    return generator.gamma(1.0, 0.25, count) / needed**0.5 + 0.05, needed


@pytest.mark.parametrize("count", [10, 20, 40, 200])
def test_the_interval_of_a_weighted_ratio_covers_it(count):
    generator = np.random.default_rng(0)
    values, weights = relative_errors(generator, 1_000_000)
    truth, hits = np.average(values, weights=weights), 0
    for _ in range(400):
        values, weights = relative_errors(generator, count)
        low, high = mean_interval(values, weights=weights)
        hits += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize("count", [10, 40])
def test_the_interval_of_a_judge_s_position_bias_covers_it(count):
    """Differences of grades are whole numbers, most of them 0."""
    generator, hits = np.random.default_rng(0), 0
    for _ in range(400):
        apart = generator.choice(
            [-2, -1, 0, 1, 2, 3], p=[0.05, 0.1, 0.5, 0.2, 0.1, 0.05], size=count
        )
        low, high = mean_interval(apart.tolist())
        hits += low <= 0.35 <= high
    assert 0.93 <= hits / 400 <= 0.985


def photos_with_edits(generator: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """60 photos with 1 to 6 edits each: a photo is hard for an editor or easy."""
    counts = generator.integers(1, 7, size=60)
    hard = np.repeat(generator.normal(0.5, 0.2, 60), counts)
    values = hard + generator.normal(0, 0.05, counts.sum())
    return values, [f"photo-{number}" for number in np.repeat(np.arange(60), counts)]


@pytest.mark.parametrize("count", [60, 12])
def test_photos_that_are_edited_more_than_once_are_drawn_as_one(count):
    generator, hits, naive = np.random.default_rng(0), 0, 0
    for _ in range(300):
        values, photos = photos_with_edits(generator)
        few = [place for place, photo in enumerate(photos) if int(photo[6:]) < count]
        values, photos = values[few], [photos[place] for place in few]
        low, high = mean_interval(values, photos=photos)
        hits += low <= 0.5 <= high
        low, high = mean_interval(values)
        naive += low <= 0.5 <= high
    assert hits / 300 >= 0.92
    assert naive / 300 < 0.8


def test_names_and_order_of_photos_do_not_matter_and_one_each_is_none_at_all():
    values = np.random.default_rng(0).normal(size=40)
    names = [f"{number:02d}" for number in range(40)]
    assert mean_interval(values, photos=names) == mean_interval(values)
    assert mean_interval(values, photos=["one"] * 40) is None


@pytest.mark.parametrize(("hits", "trials"), [(0, 60), (3, 60), (31, 40), (8, 8)])
def test_a_share_has_wilson_s_interval(hits, trials):
    values = [1.0] * hits + [0.0] * (trials - hits)
    expected = scipy.stats.binomtest(hits, trials).proportion_ci(method="wilson")
    interval = mean_interval(values, share=True)
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_share_s_interval_covers_it_where_edits_of_one_photo_are_alike_or_strangers():
    generator = np.random.default_rng(0)
    for alike in (0.3, 30.0):  # photos' own shares lie at both ends, or all near 0.5
        hits, widths = 0, []
        for _ in range(300):
            counts = generator.integers(1, 7, size=30)
            chance = np.repeat(generator.beta(alike, alike, 30), counts)
            values = (generator.uniform(size=len(chance)) < chance).astype(float)
            photos = [f"p{at}" for at in np.repeat(np.arange(30), counts)]
            low, high = mean_interval(values, photos=photos, share=True)
            hits += low <= 0.5 <= high
            widths.append(high - low)
        assert 0.91 <= hits / 300 <= 0.99
        few, many = (np.ptp(wilson_interval(0.5, trials)) for trials in (30, 105))
        assert np.median(widths) > (few if alike < 1 else many) * 0.95
        assert np.median(widths) < few * 1.2 if alike < 1 else np.median(widths) < few * 0.75


def test_a_mean_of_equal_values_is_no_share_of_hits():
    # what Identity differs from the source by
    assert mean_interval([0.0] * 60) == (0.0, 0.0)


def test_an_interval_s_p_is_below_a_twentieth_where_it_excludes_0():
    for freedom in (1, 7, 500):
        assert p_value(1.0, (0.01, 2.5), freedom) < 0.05 < p_value(1.0, (-0.01, 2.5), freedom)
        assert p_value(-1.0, (-5.0, -0.01), freedom) < 0.05 < p_value(-1.0, (-5.0, 0.01), freedom)


@pytest.mark.parametrize("count", [2, 3, 8, 40])
def test_photos_that_all_differ_alike_have_the_p_of_a_sign_test(count):
    values = [0.1 + 0.2] * count  # whose mean may round to another number
    expected = scipy.stats.binomtest(count, count).pvalue
    assert mean_p(values) == pytest.approx(expected)
    value = float(np.mean(values))
    assert p_value(value, mean_interval(values), count - 1) == pytest.approx(expected)
    assert mean_p([0.0] * count) == p_value(0.0, (0.0, 0.0), count - 1) == 1


def test_the_p_of_a_mean_is_below_a_twentieth_where_its_interval_excludes_0():
    generator, sure = np.random.default_rng(0), 0
    for count in (2, 3, 8, 40):
        for _ in range(100):
            values = generator.exponential(size=count) - generator.uniform(0, 1.5)
            weights = generator.exponential(size=count)
            low, high = mean_interval(values, weights=weights)
            p = mean_p(values, weights=weights)
            assert (p < 0.05) == (low > 0 or high < 0)
            sure += p < 0.05
    assert 50 < sure < 350
    assert mean_p([0.4]) is None


def normal(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return generator.normal(size=size)


def long_tails(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    return generator.laplace(size=size)


def skewed(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """An editor that differs by much in few samples; the percentiles' p: bold in 31 % of tables."""
    return generator.exponential(size=size) - 1


@pytest.mark.parametrize(
    ("draw", "count", "most"),
    [
        (normal, 5, 0.07),
        (normal, 40, 0.07),
        (long_tails, 5, 0.07),
        (long_tails, 40, 0.07),
        (skewed, 20, 0.12),
        (skewed, 40, 0.12),
    ],
)
def test_of_a_table_where_nothing_differs_few_have_a_bold_difference(draw, count, most):
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        wrong += min(holm([mean_p(column) for column in draw(generator, (17, count))])) < 0.05
    assert wrong / 400 <= most


def test_holm_s_correction_is_the_step_down_written_out():
    p = [0.04, 0.001, 0.02, 0.9]
    assert holm(p) == pytest.approx([0.08, 0.004, 0.06, 0.9])
    assert holm([]) == []
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(400):  # 20 differences of which none is one
        wrong += min(holm(generator.uniform(size=20).tolist())) < 0.05
    assert wrong / 400 < 0.08
