"""Random draws that are the same on every machine: integers read from SHA-256.

A library's generator may change its stream from one version to the next; a hash does not.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

Item = TypeVar("Item")

_STEP = 2.0**-24  # fractions are multiples of it: exact in float32 too


class Draws:
    """An endless stream of draws, determined by its name."""

    def __init__(self, *name: object) -> None:
        """Start the stream called `name`, such as `Draws(seed, index, "light")`."""
        self._name = ":".join(str(part) for part in name)
        self._block = 0
        self._left: list[int] = []

    def integer(self, count: int) -> int:
        """Draw uniformly from 0 to `count` - 1; the bias is below `count` / 2^32."""
        return self._word() * count >> 32

    def fraction(self) -> float:
        """Draw from [0, 1) in steps of 2^-24."""
        return (self._word() >> 8) * _STEP

    def between(self, low: float, high: float) -> float:
        """Draw from [low, high)."""
        return low + (high - low) * self.fraction()

    def choice(self, items: Sequence[Item]) -> Item:
        """Draw one of the items."""
        return items[self.integer(len(items))]

    def chance(self, share: float) -> bool:
        """Return True with probability `share`."""
        return self.fraction() < share

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        """Return the items in random order."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = self.integer(last + 1)
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed

    def _word(self) -> int:
        if not self._left:
            digest = hashlib.sha256(f"{self._name}/{self._block}".encode()).digest()
            self._left = list(struct.unpack(">8I", digest))
            self._block += 1
        return self._left.pop()
