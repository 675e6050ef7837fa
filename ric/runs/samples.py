"""DATA as a run reads it, and the paragraphs of a describe run about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ric.data.names import nfc
from ric.data.sample import samples_of
from ric.errors import RicError
from ric.runs.record import read_record, status_of
from ric.runs.rows import read_rows
from ric.runs.strays import refuse_links_out

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@dataclass(frozen=True)
class Descriptions:
    """The paragraphs of a describe run.

    Attributes:
        run: The run.
        texts: t_f by sample id.
    """

    run: Path
    texts: dict[str, str]


def read_descriptions(reference: str | None, samples: Samples, run: RunDir) -> Descriptions | None:
    """Read the paragraphs of a describe run about DATA; None if no run is named.

    Raises:
        RicError: the reference is not a run, the run is not finished or has no descriptions, or
            none of them belongs to DATA.
    """
    if reference is None:
        return None
    path = run.resolve(reference)
    if path is None:
        raise RicError(f"No run at {reference!r}.", "List the runs: ric runs ls")
    record = read_record(path)
    if record["status"] != "done":
        raise RicError(
            f"{path} is not finished ({status_of(record, path)}): descriptions may be missing.",
            f"Finish it by repeating its command with --run {path}",
        )
    refuse_links_out(path)
    texts = {
        nfc(row["id"]): text
        for row in read_rows(path, "descriptions")
        if isinstance(text := row.get("scene_text"), str)
    }
    if not texts:
        raise RicError(f"{path} has no descriptions.", "Write them: ric describe DATA")
    # all splits: finding a sample's split may need decoding it
    everything = samples.narrowed("all", on_failure=lambda error: None)
    if not any(sample.id in texts for sample in everything):
        raise RicError(
            f"{path} describes no sample of {samples.name}: none of its {len(texts)} ids match.",
            f"Describe these samples: ric describe {samples.name}",
        )
    run.add_parent(path)
    return Descriptions(path, texts)
