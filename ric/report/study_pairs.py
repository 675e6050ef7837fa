"""The pairs of a study: which samples, which two editors, and who stands on which side.

All is a function of the seed, the samples' ids and the editors' labels, the same on every machine
and in whatever order the runs were named.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class StudyPair(NamedTuple):
    """A sample, and the labels of the editors on sides A and B."""

    sample: str
    a: str
    b: str


def choose_pairs(
    held: Mapping[str, Collection[str]], count: int, *, seed: int = 0
) -> list[StudyPair]:
    """Choose pairs and shuffle them.

    Each two editors take their turn, with one of those samples that were shown least, and that they
    have not met on; and each of them stands on either side as often.

    Args:
        held: The labels of the editors that have a picture, by the sample's id.
        count: How many pairs; all of them if there are fewer.
        seed: The same seed gives the same pairs, sides and order.
    """
    waiting: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sample, labels in held.items():
        for both in combinations(sorted(labels), 2):
            waiting[both].append(sample)
    for both, samples in waiting.items():
        ranks = {sample: _rank(seed, "sample", sample, *both) for sample in samples}
        samples.sort(key=ranks.__getitem__)
    in_turn = sorted(waiting, key=lambda both: _rank(seed, "editors", *both))
    chosen: list[StudyPair] = []
    shown: Counter[str] = Counter()
    turn = 0
    while len(chosen) < count and any(waiting.values()):
        for both in in_turn:
            if not waiting[both] or len(chosen) == count:
                continue
            sample = min(waiting[both], key=shown.__getitem__)  # of equals the first
            waiting[both].remove(sample)
            shown[sample] += 1
            swapped = (turn + int(_rank(seed, "side", *both), 16)) % 2
            chosen.append(StudyPair(sample, *(both[::-1] if swapped else both)))
        turn += 1
    return sorted(chosen, key=lambda pair: _rank(seed, "order", pair.sample, *sorted(pair[1:])))


def pairs_in(held: Mapping[str, Collection[str]]) -> int:
    """Count all pairs that there are to choose from."""
    return sum(len(labels) * (len(labels) - 1) // 2 for labels in held.values())


def _rank(seed: int, *words: str) -> str:
    """Return a hexadecimal number that looks drawn; no two lists of words run into one."""
    told = "".join(f"{len(word)}:{word}" for word in (str(seed), *words))
    return hashlib.sha256(told.encode(errors="backslashreplace")).hexdigest()
