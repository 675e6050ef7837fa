"""Counting DATA's samples without decoding a picture."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ric.data import humanedit
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.config import CommandConfig
    from ric.data.opened import Opened

ROWS = {humanedit.HUB_ID: humanedit.ROWS}  # as published; for while they are not here
SHARES = {"train": 0.85, "val": 0.05, "test": 0.10}  # choice 5


def count_samples(
    config: CommandConfig, opening: Callable[[], Opened] | None = None
) -> tuple[int | None, int | str]:
    """Count samples without decoding a picture, as a number and in words.

    The split of each row is not read: a split is taken to hold its usual share of all rows.

    Args:
        config: DATA, its split and its limit.
        opening: Opens DATA, or returns what was opened before; None: it is opened here.

    Returns:
        (count, count), or (estimate, words) for a split; (None, "unknown") where rows cannot be
        counted.
    """
    from ric.data.opened import open_data

    try:
        opened = (opening or partial(open_data, config, need_instruction=False))()
        if opened.samples is None:
            return len(opened.photos), len(opened.photos)
        count = opened.samples.row_count
        if count is not None and opened.samples.kind == "benchmark" and config.split == "test":
            all_of_it = min(count, count if config.limit is None else config.limit)
            return all_of_it, all_of_it
    except RicError:
        count = None
    count = count or ROWS.get(config.data)
    if count is None:
        return None, "unknown"
    limit = count if config.limit is None else config.limit
    if config.split == "all":
        return min(count, limit), min(count, limit)
    share = SHARES[config.split]
    expected = min(round(count * share), limit)
    at_most = "" if config.limit is None else f", at most {config.limit}"
    return expected, f"about {expected} ({share:.0%} of {count} rows{at_most})".replace("%", " %")
