"""Notes at the end of an edit run: masks, cut texts, unused quality, sizes that were changed."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ric.data.photograph import heeds_quality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ric.progress import Progress
    from ric.runs.run import RunDir


def note_outcome(run: RunDir, progress: Progress) -> None:
    """Record how many edits have a mask; say how many were resized, or not as asked for.

    That is those whose text was cut, and those in a format without the quality that was typed.
    """
    rows = list(run.rows("edits"))
    run.note(masked_edits=sum(row.get("mask") is not None for row in rows))
    if count := sum("text_cut" in row for row in rows):
        run.note(truncated_texts={"edits": count})
        progress.note(
            f"{count} of {len(rows)} edits have a text longer than the editor reads: its end is cut"
            " off"
        )
    rated = [row["file_name"] for row in rows if row.get("quality") is not None]
    if unrated := [name for name in rated if not heeds_quality(name)]:
        suffixes = sorted({PurePath(name).suffix.lower() for name in unrated})
        progress.note(
            f"--quality applies to JPEG, WebP and AVIF, and {len(unrated)} of {len(rows)} edits"
            f" stay without it ({', '.join(suffixes)}): add --format jpg or --format webp"
        )
    if resized := [row for row in rows if row.get("size") != row.get("working_size")]:
        progress.note(_resized_in_words(resized, len(rows)))


def _resized_in_words(resized: Sequence[dict[str, Any]], of: int) -> str:
    """Say at what size pictures were edited, and by how much they were enlarged again."""
    factors = [_enlarged(row) for row in resized]
    most = max(factors)
    row = resized[factors.index(most)]
    (width, height), (wide, high) = row["size"], row["working_size"]
    who = row["id"] if of == 1 else f"{len(resized)} of {of} pictures, such as {row['id']},"
    were = "was" if of == 1 else "were"
    words = f"{who} {were} edited at another size ({wide}x{high} for {width}x{height}) and resized"
    if most <= 1:
        return f"{words} back"
    return (
        f"{words} back, which enlarges {'it' if of == 1 else 'them by up to'} {most:.3g} times:"
        " with a mask, --crop-to-mask edits at native resolution"
    )


def _enlarged(row: dict[str, Any]) -> float:
    return max(big / small for big, small in zip(row["size"], row["working_size"], strict=True))
