"""Notes at the end of an edit run: masks, cut texts, unused quality, sizes that were changed."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ric.data.photograph import heeds_quality

if TYPE_CHECKING:
    from ric.progress import Progress
    from ric.runs.run import RunDir


def note_outcome(run: RunDir, progress: Progress) -> None:
    """Record how many edits have a mask; say how many were resized, or not as asked for.

    That is those whose text was cut, and those in a format without the quality that was typed.
    """
    count, told = 0, Counter[str]()
    suffixes: set[str] = set()
    most: dict[str, Any] | None = None  # that which was enlarged the most
    for row in run.rows("edits"):  # of which there may be millions
        count += 1
        told["masked"] += row.get("mask") is not None
        told["cut"] += "text_cut" in row
        if row.get("quality") is not None and not heeds_quality(row["file_name"]):
            told["unrated"] += 1
            suffixes.add(PurePath(row["file_name"]).suffix.lower())
        if row.get("size") != row.get("working_size"):
            told["resized"] += 1
            most = row if most is None or _enlarged(row) > _enlarged(most) else most
    run.note(masked_edits=told["masked"])
    if told["cut"]:
        run.note(truncated_texts={"edits": told["cut"]})
        progress.note(
            f"{told['cut']} of {count} edits have a text longer than the editor reads: its end is"
            " cut off"
        )
    if told["unrated"]:
        progress.note(
            f"--quality applies to JPEG, WebP and AVIF, and {told['unrated']} of {count} edits stay"
            f" without it ({', '.join(sorted(suffixes))}): add --format jpg or --format webp"
        )
    if most is not None:
        progress.note(_resized_in_words(most, told["resized"], count))


def _resized_in_words(row: dict[str, Any], resized: int, of: int) -> str:
    """Say at what size pictures were edited, and by how much they were enlarged again.

    Args:
        row: Of the edit that was enlarged the most.
        resized: How many were.
        of: How many edits there are.
    """
    most = _enlarged(row)
    (width, height), (wide, high) = row["size"], row["working_size"]
    who = row["id"] if of == 1 else f"{resized} of {of} pictures, such as {row['id']},"
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
