"""The captions of describe runs, for editors that go from one caption to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.data.names import nfc
from ric.errors import RicError
from ric.runs.descriptions import rows_of_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ric.runs.run import RunDir

# of a row's texts, those that serve as each caption; the first that is there
SERVE = {"source_text": ("source_text",), "target_text": ("target_text", "scene_text")}


def read_captions(references: Sequence[str], run: RunDir) -> dict[str, dict[str, str]]:
    """Read the captions of describe runs, by sample id; of two for one sample the first counts.

    A paragraph about the edited scene serves as the target's caption.

    Raises:
        RicError: a reference is not a run, its run is not finished, or has no captions.
    """
    captions: dict[str, dict[str, str]] = {}
    for reference in references:
        path = run.resolve(reference)
        if path is None:
            raise RicError(f"No run at {reference!r}.", "List the runs: ric runs ls")
        of_run = _captions_in(path)
        if not of_run:
            raise RicError(f"{path} has no captions.", "Write them: ric describe DATA")
        for name, texts in of_run.items():
            captions[name] = {**texts, **captions.get(name, {})}
        run.add_parent(path)
    return captions


def _captions_in(path: Path) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    for row in rows_of_run(path, "captions"):
        texts = {name: text for name, text in row.items() if isinstance(text, str)}
        rows.setdefault(nfc(texts["id"]), {}).update(texts)
    found = {}
    for name, texts in rows.items():
        served = {
            caption: next((texts[one] for one in ways if one in texts), None)
            for caption, ways in SERVE.items()
        }
        if any(served.values()):
            found[name] = {caption: text for caption, text in served.items() if text is not None}
    return found
