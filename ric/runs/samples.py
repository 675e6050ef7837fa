"""DATA as a run reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.data.sample import samples_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.config import CommandConfig, SplitName
    from ric.data.sample import EditSample, Samples
    from ric.runs.run import RunDir


def open_samples(
    config: CommandConfig,
    run: RunDir,
    *,
    split: SplitName | None = None,
    need_instruction: bool = True,
    may_change: bool = False,
) -> Samples:
    """Open DATA with the config's settings; rows that cannot be read become failures of the run.

    Args:
        config: DATA and how to read it.
        run: The run.
        split: None: the config's.
        need_instruction: Whether a row without an instruction is a failure.
        may_change: Accept other data than a resumed run began with.

    Raises:
        RicError: a resumed run began with other data.
    """
    samples = samples_of(
        config,
        split=split,
        limit=config.limit,
        need_instruction=need_instruction,
        on_failure=run.fail,
    )
    run.note_data(samples.name, samples.fingerprint, may_change=may_change)
    return samples


def read_samples(
    config: CommandConfig,
    run: RunDir,
    *,
    split: SplitName | None = None,
    need_instruction: bool = True,
) -> Iterator[EditSample]:
    """Stream DATA once; see `open_samples`."""
    yield from open_samples(config, run, split=split, need_instruction=need_instruction)
