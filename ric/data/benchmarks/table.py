"""The benchmarks by the names that DATA begins with, such as `pie-bench:DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ric.data.benchmarks import (
    emu_edit,
    gedit,
    imgedit,
    magicbrush_release,
    pica_bench,
    pie_bench,
)
from ric.errors import RicError

if TYPE_CHECKING:
    from ric.data.benchmarks.layout import Layout

BENCHMARKS: dict[str, Layout] = {
    "pie-bench": pie_bench.LAYOUT,
    "pica-bench": pica_bench.LAYOUT,
    "magicbrush": magicbrush_release.LAYOUT,
    "imgedit": imgedit.LAYOUT,
    "gedit": gedit.in_language(None),
    "gedit-en": gedit.in_language("en"),
    "gedit-cn": gedit.in_language("cn"),
    "emu-edit": emu_edit.LAYOUT,
}


class Benchmark(NamedTuple):
    """A benchmark that DATA names, and its files of rows, the chief one first."""

    name: str
    layout: Layout
    files: list[Path]

    @property
    def root(self) -> Path:
        """The folder that paths in its rows begin at."""
        return self.files[0].parent


def place_of(data: str) -> tuple[str, str] | None:
    """Split `NAME:DIR` where the name is a benchmark's; None for any other DATA."""
    name, colon, place = data.partition(":")
    return (name, place) if colon and name in BENCHMARKS else None


def folder_of(data: str) -> str:
    """Return the folder of a benchmark; other DATA as it is."""
    found = place_of(data)
    return found[1] if found else data


def find_benchmark(data: str) -> Benchmark | None:
    """Find the files of the benchmark that DATA names; None where it names none.

    Raises:
        RicError: There is no such folder, or it does not hold what the benchmark's does.
    """
    found = place_of(data)
    if found is None:
        return None
    name, place = found
    layout = BENCHMARKS[name]
    hint = f"DIR of {name}:DIR holds {layout.holds}."
    path = Path(place).expanduser()
    if not place or not path.exists():
        raise RicError(f"There is no folder '{place}' for {name}:DIR.", hint)
    files = layout.find(path)
    if not files:
        raise RicError(f"'{place}' does not hold what {name} does.", hint)
    return Benchmark(name, layout, files)


def require_judge(data: str) -> None:
    """Check that the judge of a benchmark reads edits from a folder.

    Raises:
        RicError: DATA is no benchmark, or its authors' script does not take what `ric edit` makes.
    """
    found = place_of(data)
    if found is None or BENCHMARKS[found[0]].results is None:
        judged = [name for name, layout in BENCHMARKS.items() if layout.results is not None]
        why = "is not a benchmark in its own layout" if found is None else "has no such judge"
        raise RicError(
            f"--export lays edits out for a benchmark's own judge, and {data!r} {why}.",
            f"It goes with {', '.join(f'{name}:DIR' for name in judged)}. What a run made is in its"
            " folder images.",
        )
