"""The interval of a mean covers the truth as often as it says, on distributions that are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from ric.metrics.intervals import holm, mean_interval, p_value, wilson_interval

Draw = Callable[[np.random.Generator], np.ndarray]


def covered(draw: Draw, truth: float, trials: int = 300) -> float:
    generator = np.random.default_rng(0)
    intervals = [mean_interval(draw(generator), seed=trial) for trial in range(trials)]
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
    low, high = mean_interval(ours - theirs)
    assert low == pytest.approx(0.01)
    assert high == pytest.approx(0.01)
    assert np.diff(mean_interval(ours)) > 0.01


def test_of_ten_samples_it_is_the_textbook_s_by_student_and_covers_too():
    values = np.random.default_rng(3).normal(size=10)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx(tuple(expected))
    assert 0.92 <= covered(lambda generator: generator.normal(0, 1, 10), 0.0) <= 0.98


def photos_with_edits(generator: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """60 photos with 1 to 6 edits each: a photo is hard for an editor or easy."""
    counts = generator.integers(1, 7, size=60)
    hard = np.repeat(generator.normal(0.5, 0.2, 60), counts)
    values = hard + generator.normal(0, 0.05, counts.sum())
    return values, [f"photo-{number}" for number in np.repeat(np.arange(60), counts)]


@pytest.mark.parametrize("count", [60, 12])
def test_photos_that_are_edited_more_than_once_are_drawn_as_one(count):
    generator, hits, naive = np.random.default_rng(0), 0, 0
    for trial in range(300):
        values, photos = photos_with_edits(generator)
        few = [place for place, photo in enumerate(photos) if int(photo[6:]) < count]
        values, photos = values[few], [photos[place] for place in few]
        low, high = mean_interval(values, photos=photos, seed=trial)
        hits += low <= 0.5 <= high
        low, high = mean_interval(values, seed=trial)
        naive += low <= 0.5 <= high
    assert hits / 300 >= 0.91
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


@pytest.mark.parametrize("count", [2, 5, 29])
def test_the_p_of_few_photos_is_scipy_s_of_student_s_t(count):
    values = np.random.default_rng(count).normal(1.0, size=count)
    expected = scipy.stats.ttest_1samp(values, 0).pvalue
    found = p_value(float(values.mean()), mean_interval(values), count - 1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 8, 40])
def test_an_interval_without_width_has_the_p_of_a_sign_test(count):
    values = [0.1 + 0.2] * count  # whose mean may round to another number
    expected = scipy.stats.binomtest(count, count).pvalue
    value = float(np.mean(values))
    assert p_value(value, mean_interval(values), count - 1) == pytest.approx(expected)
    assert p_value(0.0, (0.0, 0.0), count - 1) == 1


@pytest.mark.parametrize("count", [5, 8])
def test_of_a_table_where_nothing_differs_one_in_twenty_has_a_bold_difference(count):
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(600):
        columns = generator.normal(size=(17, count))
        intervals = [mean_interval(column) for column in columns]
        means = [float(column.mean()) for column in columns]
        p = [p_value(*told, count - 1) for told in zip(means, intervals, strict=True)]
        wrong += min(holm(p)) < 0.05
    assert 0.02 <= wrong / 600 <= 0.08


def test_holm_s_correction_is_the_step_down_written_out():
    p = [0.04, 0.001, 0.02, 0.9]
    assert holm(p) == pytest.approx([0.08, 0.004, 0.06, 0.9])
    assert holm([]) == []
    generator, wrong = np.random.default_rng(0), 0
    for _ in range(400):  # 20 differences of which none is one
        wrong += min(holm(generator.uniform(size=20).tolist())) < 0.05
    assert wrong / 400 < 0.08


def test_unless_told_otherwise_the_mean_is_drawn_a_thousand_times():
    values = np.random.default_rng(3).normal(size=40)
    assert mean_interval(values) == mean_interval(values, resamples=1000)
    assert mean_interval(values) != mean_interval(values, resamples=999)
