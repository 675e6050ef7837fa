"""DATA as a run reads it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ric.data.opened import open_data
from ric.errors import RicError
from ric.settings import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.config import CommandConfig
    from ric.data.opened import Opened
    from ric.data.sample import EditSample, Samples
    from ric.runs.run import RunDir


def opened_data(config: CommandConfig, run: RunDir, *, need_instruction: bool = True) -> Opened:
    """Return DATA as the command's checks have opened it; open it where there were none.

    Raises:
        RicError: as `open_data`.
    """
    if run.opened is None:
        run.opened = open_data(config, need_instruction=need_instruction)
    return run.opened


def open_samples(
    config: CommandConfig,
    run: RunDir,
    *,
    need_instruction: bool = True,
    may_change: bool = False,
) -> Samples:
    """Return the samples of DATA; rows that cannot be read become failures of the run.

    Args:
        config: DATA and how to read it.
        run: The run.
        need_instruction: Whether a row without an instruction is a failure.
        may_change: Accept other data than a resumed run began with.

    Raises:
        RicError: a resumed run began with other data.
    """
    opened = opened_data(config, run, need_instruction=need_instruction).samples
    assert opened is not None  # photos are no samples
    samples = opened.reporting(run.fail)
    run.note_data(samples.name, samples.fingerprint, may_change=may_change)
    return samples


def is_in_shard(name: str, shard: str | None) -> bool:
    """Tell whether a sample is of a shard: the same on every machine, whatever the order.

    Args:
        name: Its id.
        shard: As `--shard` names it, `2/5`; None: all samples are of it.
    """
    part, count = shard_of(shard)
    # a photo's file name may not be UTF-8: it fails later, in one shard alone
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8]) % count == part - 1


def some_samples(samples: Samples, config: CommandConfig, run: RunDir) -> Iterator[EditSample]:
    """Yield samples.

    Args:
        samples: DATA.
        config: Names DATA and split in the message.
        run: The run that reads them; if it has failures, it says itself that nothing else came.

    Raises:
        RicError: there are none.
    """
    sample = None
    for sample in samples:
        yield sample
    if sample is None and not run.failures:
        raise RicError(
            f"{config.data} has no sample of split {config.split}.",
            "Choose another split: --split all" if config.split != "all" else None,
        )
