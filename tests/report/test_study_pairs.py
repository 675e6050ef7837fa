"""Which pairs a study shows: a function of the seed, and fair to every editor."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from ric.report.study_pairs import choose_pairs, pairs_in

EDITORS = ["Ours", "Theirs", "Zone"]
HELD = {f"s{number:02d}": EDITORS for number in range(40)}


def test_the_seed_decides_pairs_sides_and_order_and_the_order_of_runs_does_not():
    chosen = choose_pairs(HELD, 30, seed=4)
    assert chosen == choose_pairs(HELD, 30, seed=4)
    turned = {sample: EDITORS[::-1] for sample in reversed(HELD)}
    assert chosen == choose_pairs(turned, 30, seed=4)
    assert chosen != choose_pairs(HELD, 30, seed=5)
    assert len(set(chosen)) == 30


@pytest.mark.parametrize("seed", range(5))
def test_editors_meet_equally_often_and_stand_on_either_side_equally_often(seed):
    chosen = choose_pairs(HELD, 60, seed=seed)
    meetings = Counter(frozenset((pair.a, pair.b)) for pair in chosen)
    assert set(meetings.values()) == {20}
    sides = Counter((pair.a, pair.b) for pair in chosen)
    assert set(sides.values()) == {10}


@pytest.mark.parametrize("seed", range(5))
def test_no_sample_comes_again_before_all_were_shown(seed):
    assert set(Counter(pair.sample for pair in choose_pairs(HELD, 40, seed=seed)).values()) == {1}
    assert set(Counter(pair.sample for pair in choose_pairs(HELD, 120)).values()) == {3}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_tells_neither_the_data_s_nor_the_editors(seed):
    chosen = choose_pairs(HELD, 120, seed=seed)
    assert [pair.sample for pair in chosen] != sorted(pair.sample for pair in chosen)
    # a side that is known says nothing about the next pair's
    left = [pair.a < pair.b for pair in chosen]
    alike = sum(one == other for one, other in pairwise(left))
    assert 40 <= alike <= 79  # of 119; a fair coin stays within this in 999 of 1000


def test_all_pairs_that_there_are_can_be_asked_for_and_no_more():
    held = {"x": ["Ours", "Theirs"], "y": ["Ours", "Zone", "Theirs"], "z": ["Ours"]}
    assert pairs_in(held) == 4
    chosen = choose_pairs(held, 9)
    told = {(pair.sample, *sorted((pair.a, pair.b))) for pair in chosen}
    assert told == {
        ("x", "Ours", "Theirs"), ("y", "Ours", "Theirs"), ("y", "Ours", "Zone"),
        ("y", "Theirs", "Zone"),
    }  # fmt: skip
    assert len(chosen) == 4
