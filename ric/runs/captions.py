"""The texts of describe runs that editors read, and those that judges choose candidates by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.data.names import nfc
from ric.errors import RicError
from ric.runs.descriptions import is_of_sources, rows_of_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ric.runs.run import RunDir

# of a row's texts, those that serve as each text that is read; the first that is there
SERVE = {
    "source_text": ("source_text",),
    "target_text": ("target_text", "scene_text"),
    "instruction": ("explicit_instruction",),
    "region_text": ("region_text",),
    "scene_text": ("scene_text",),
}


def read_captions(
    references: Sequence[str], run: RunDir, reads: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Read the texts of describe runs, by sample id; of two for one sample the first counts.

    A paragraph about the edited scene serves as the target's caption; one about the source, of
    `ric describe --image source`, tells nothing of the edit and is not read.

    Args:
        references: The describe runs.
        run: The run that reads them; they become its parents.
        reads: What editor and judges read: keys of `SERVE`.

    Raises:
        RicError: a reference is not a run, its run is not finished, or has none of these texts.
    """
    captions: dict[str, dict[str, str]] = {}
    for reference in references:
        path = run.resolve(reference)
        if path is None:
            raise RicError(f"No run at {reference!r}.", "List the runs: ric runs ls")
        of_run = _captions_in(path, reads)
        if not of_run:
            columns = dict.fromkeys(column for name in reads for column in SERVE[name])
            about = " about the edit (--image source)" if is_of_sources(path) else ""
            raise RicError(
                f"{path} has no {' and no '.join(columns)}{about}.",
                "Write them: ric describe DATA --what all",
            )
        for name, texts in of_run.items():
            captions[name] = {**texts, **captions.get(name, {})}
        run.add_parent(path)
    return captions


def _captions_in(path: Path, reads: Sequence[str]) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for row in rows_of_run(path, "captions"):
        texts = {name: text for name, text in row.items() if isinstance(text, str)}
        rows.setdefault(nfc(texts["id"]), {}).update(texts)
    found = {}
    for name, texts in rows.items():
        served = {
            column: next((texts[one] for one in SERVE[column] if one in texts), None)
            for column in reads
        }
        if any(served.values()):
            found[name] = {column: text for column, text in served.items() if text is not None}
    return found
