from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from ric.data.seen_ids import SeenIds
from ric.splits import own_split, split_of


def test_the_shares_are_85_5_10():
    counts = Counter(split_of(f"photo-{n}") for n in range(20_000))
    assert counts["train"] / 20_000 == pytest.approx(0.85, abs=0.01)
    assert counts["val"] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert counts["test"] / 20_000 == pytest.approx(0.10, abs=0.01)


def test_a_group_keeps_its_split_for_ever():
    for group in ("BEwrVP6o0yQ", "_fxEy6uRY3w", "a", "é"):
        fraction = int(hashlib.sha256(group.encode()).hexdigest()[:16], 16) / 16**16
        expected = "train" if fraction < 0.85 else "val" if fraction < 0.9 else "test"
        assert split_of(group) == expected


def test_other_names_of_the_splits_are_understood():
    assert [own_split(n) for n in ("train", "Validation", "dev", "val", "test", " test ")] == [
        "train", "val", "val", "val", "test", "test",
    ]  # fmt: skip
    assert own_split("holdout") is None


def test_seen_ids_agree_with_a_set():
    ids = [f"id-{n % 3000}" for n in range(9000)] + ["", "é"]
    seen, reference = SeenIds(), set()
    for name in ids:
        assert seen.add(name) == (name not in reference)
        reference.add(name)
    assert len(seen) == len(reference)


def test_a_seen_id_takes_at_most_22_bytes():
    seen = SeenIds()
    for number in range(200_000):
        seen.add(str(number))
    assert len(seen._slots) * seen._slots.itemsize <= 22 * 200_000
