"""The finished samples of a run, and the reasons why a run without an error may not be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.runs.rows import key_of, read_lines, read_rows

if TYPE_CHECKING:
    from pathlib import Path

# rows that list a run's input; a sample listed there need not be finished
LISTED = "samples"


def finished_by(path: Path, writer: str) -> set[str]:
    """Collect the keys of rows that `writer` (`*`: any) has finished or failed in a run.

    A key is a sample's id, or names one text about it: see `rows.key_of`.
    """
    files = [*path.glob(f"[!.]*-{writer}.jsonl"), *path.glob("[!.]*[!0-9].jsonl")]
    return {
        key
        for file in files
        if not file.name.startswith(LISTED)
        for row in read_lines(file)
        if (key := key_of(row)) is not None
    }


def why_undone(path: Path, left_to_others: set[str]) -> RicError | None:
    """Report samples that were left to other processes and have neither row nor failure.

    Returns:
        The error to raise; None if all of them are finished.
    """
    undone = sorted(left_to_others - finished_by(path, "*")) if left_to_others else []
    if not undone:
        return None
    return RicError(
        f"{len(undone)} samples ({', '.join(undone[:3])}) were begun in {path} by another "
        "process, which ended before it finished them.",
        f"Repeat the command with --run {path}",
    )


def why_failed(path: Path) -> RicError | None:
    """Report that a run has failures and nothing else; None if some sample was finished."""
    failed = list(read_rows(path, "failures"))
    # of an evaluation the rows come last: each sample may have scores, and a failure of one editor
    is_scored = (path / "per_sample.jsonl").is_file()
    if not failed or is_scored or finished_by(path, "*") - {key_of(row) for row in failed}:
        return None
    reasons = "; ".join(f"{row['id']}: {row.get('reason')}" for row in failed[:3])
    return RicError(
        f"All {len(failed)} samples failed. {reasons}",
        f"They are listed in {path / 'failures.jsonl'}. Fix them, then try again with --run {path}",
    )
