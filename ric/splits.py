"""The split of a sample.

Choice 5: HumanEdit has one split, and the paper names none. A sample's group (HumanEdit's IMAGE_ID,
or else a hash of the source's pixels) is hashed to a fraction: 85 % train, 5 % val, 10 % test. Two
edits of one photo are always in the same split, and no list or seed is needed. A dataset's own
splits win.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "val", "test"]

TRAIN_SHARE = 0.85
VAL_SHARE = 0.05

_OWN_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_of(group: str) -> Split:
    """Return the split of a group, the same on every machine and in every order."""
    digest = hashlib.sha256(group.encode(errors="surrogatepass")).digest()
    fraction = int.from_bytes(digest[:8]) / 2**64
    if fraction < TRAIN_SHARE:
        return "train"
    return "val" if fraction < TRAIN_SHARE + VAL_SHARE else "test"


def own_split(name: str) -> Split | None:
    """Map a dataset's name of a split (`dev` and `validation` are val); None if unknown."""
    return _OWN_NAMES.get(name.strip().lower())
