"""The difference of two shares on the same samples: covered, and false no more often than told."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import scipy.stats

from ric.metrics.intervals import wilson_interval
from ric.metrics.share_differences import share_difference


def table(both: int, ours: int, theirs: int, neither: int) -> tuple[list[float], list[float]]:
    """Return the hits of two editors, by how many samples are hits of whom."""
    cells = [(1.0, 1.0)] * both + [(1.0, 0.0)] * ours
    cells += [(0.0, 1.0)] * theirs + [(0.0, 0.0)] * neither
    one, other = zip(*cells, strict=True)
    return list(one), list(other)


@pytest.mark.parametrize("cells", [(0, 3, 0, 0), (5, 9, 2, 4), (0, 4, 4, 0), (7, 0, 0, 7)])
def test_p_is_mcnemar_s_exact_one_which_scipy_has_as_a_binomial_test(cells):
    _, ours, theirs, _ = cells
    told = share_difference(*table(*cells))
    expected = scipy.stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1.0
    assert told.p == pytest.approx(expected)


def test_p_of_photos_with_several_edits_is_that_of_all_their_signs_written_out():
    net = [2, -1, 1, 3, 1]
    ours = [float(net_of > 0) for net_of in net for _ in range(3)]
    theirs = [float(net_of < 0) for net_of in net for _ in range(3)]
    for at, net_of in enumerate(net):  # both hit what is no net hit
        for place in range(3 * at + abs(net_of), 3 * at + 3):
            ours[place] = theirs[place] = 1.0
    photos = [f"p{at}" for at in range(5) for _ in range(3)]
    sums = [abs(np.dot(signs, net)) for signs in product((-1, 1), repeat=5)]
    expected = np.mean(np.array(sums) >= sum(net))
    assert share_difference(ours, theirs, photos=photos).p == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 60])
def test_hits_of_all_against_none_leave_room_for_what_was_not_seen(count):
    low, high = share_difference(*table(0, count, 0, 0)).interval
    assert low < high == 1
    room = 1 - wilson_interval(1.0, count)[0]
    assert low == pytest.approx(1 - room * 2**0.5)
    back_low, back_high = share_difference(*table(0, 0, count, 0)).interval
    assert (back_low, back_high) == pytest.approx((-high, -low))
    # two editors that hit and miss alike may still differ
    low, high = share_difference(*table(count, 0, 0, 0)).interval
    assert low < 0 < high


def test_a_significant_difference_has_an_interval_without_0():
    sure = 0
    for cells in product(range(0, 13, 3), range(13), range(13), range(0, 13, 3)):
        if sum(cells) > 1:
            told = share_difference(*table(*cells))
            if told.p < 0.05:
                sure += 1
                assert told.interval[0] > 0 or told.interval[1] < 0
    assert sure > 100


def test_ten_edits_of_each_photo_are_no_ten_photos():
    one = share_difference(*table(2, 3, 0, 1))
    ours, theirs = table(20, 30, 0, 10)
    photos = [f"p{at // 10}" for at in range(60)]
    many = share_difference(ours, theirs, photos=photos)
    assert many.interval == pytest.approx(one.interval)
    assert many.p == pytest.approx(one.p)
    assert share_difference(ours, theirs, photos=["one"] * 60) is None


def simulated(
    generator: np.random.Generator, photos: int, most: int, gain: float
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw edits of photos that are hard for both editors or easy, one a photo to `most`."""
    counts = generator.integers(1, most + 1, photos)
    chance = np.repeat(generator.uniform(0, 1 - gain, photos), counts)
    ours, theirs = (generator.uniform(size=(2, len(chance))) < [chance + gain, chance]).astype(
        float
    )
    return ours, theirs, [f"p{at}" for at in np.repeat(np.arange(photos), counts)]


@pytest.mark.parametrize(("photos", "most"), [(8, 1), (30, 1), (60, 1), (30, 5)])
@pytest.mark.parametrize("gain", [0.0, 0.3])
def test_the_interval_covers_the_difference_and_p_is_rarely_below_a_twentieth(photos, most, gain):
    generator = np.random.default_rng(0)
    hits, sure, torn = 0, 0, 0
    for _ in range(500):
        ours, theirs, names = simulated(generator, photos, most, gain)
        (low, high), p = share_difference(ours, theirs, photos=names)
        hits += low <= gain <= high
        sure += p < 0.05
        torn += p < 0.05 and low <= 0 <= high
    assert hits / 500 >= 0.93
    assert not torn
    if not gain:
        assert sure / 500 <= 0.07
