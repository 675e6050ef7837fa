"""DATA as a run reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.data.sample import samples_of
from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.config import CommandConfig
    from ric.data.sample import EditSample, Samples
    from ric.runs.run import RunDir


def open_samples(
    config: CommandConfig,
    run: RunDir,
    *,
    need_instruction: bool = True,
    may_change: bool = False,
) -> Samples:
    """Open DATA with the config's settings; rows that cannot be read become failures of the run.

    Args:
        config: DATA and how to read it.
        run: The run.
        need_instruction: Whether a row without an instruction is a failure.
        may_change: Accept other data than a resumed run began with.

    Raises:
        RicError: a resumed run began with other data.
    """
    samples = samples_of(
        config,
        limit=config.limit,
        need_instruction=need_instruction,
        on_failure=run.fail,
    )
    run.note_data(samples.name, samples.fingerprint, may_change=may_change)
    return samples


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
