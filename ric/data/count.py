"""Counting DATA's samples without decoding a picture."""

from __future__ import annotations

from ric.config import CommandConfig, EditConfig
from ric.data import humanedit
from ric.errors import RicError

ROWS = {humanedit.HUB_ID: humanedit.ROWS}  # as published; for while they are not here
SHARES = {"train": 0.85, "val": 0.05, "test": 0.10}  # choice 5


def count_samples(config: CommandConfig) -> tuple[int | None, int | str]:
    """Count samples without decoding a picture, as a number and in words.

    The split of each row is not read: a split is taken to hold its usual share of all rows.

    Returns:
        (count, count), or (estimate, words) for a split; (None, "unknown") where rows cannot be
        counted.
    """
    from ric.data.sample import samples_of

    try:
        if isinstance(config, EditConfig):
            from ric.data.photos import find_photos

            if photos := find_photos(config, need_instruction=False):
                return len(photos), len(photos)
        samples = samples_of(config)
        count = samples.row_count
        if count is not None and samples.kind == "benchmark" and config.split == "test":
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
