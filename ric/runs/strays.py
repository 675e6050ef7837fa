"""What must not lie in a run's folder: links out of it, and files that a killed process left."""

from __future__ import annotations

import os
import re
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.runs.claims import is_alive
from ric.runs.rows import writer_name

if TYPE_CHECKING:
    from collections.abc import Iterator

# what is written aside bears a dot, its name and its writer: .run.json.node_1f2e3d4c.4711
ASIDE = re.compile(r"\..+\.(?P<place>\w+)\.(?P<pid>\d+)")


def refuse_links_out(run: Path, part: str = "") -> None:
    """Stop where a link leads out of a run: its folder may come from anybody.

    Args:
        run: The run's folder, which may itself be reached by a link.
        part: Only this file or folder of it.

    Raises:
        RicError: names the first such link.
    """
    within = run.resolve()
    for path in _all_below(run / part):
        if path.is_symlink() and not path.resolve().is_relative_to(within):
            raise RicError(
                f"{path} is a link out of its run, to {os.readlink(path)}.",
                "Put what it points to in its place, if you trust it.",
            )


def half_written(run: Path) -> list[Path]:
    """List what other writers have written aside in a run, and not yet put into its place."""
    claims, mine = run / "claims", writer_name()
    return [
        path
        for path in _all_below(run)
        if ASIDE.fullmatch(path.name)
        and not path.name.endswith(f".{mine}")
        and claims not in path.parents
    ]


def left_beside(path: Path) -> list[Path]:
    """List what processes of this machine that live no more have written aside next to `path`."""
    return [one for one in path.parent.iterdir() if of_gone_writer(one)]


def of_gone_writer(path: Path) -> bool:
    """Tell whether `path` was written aside by a process of this machine that lives no more."""
    name = ASIDE.fullmatch(path.name)
    here = writer_name().rpartition(".")[0]
    if name is None or name["place"] != here:
        return False
    return not is_alive({"host": socket.gethostname(), "pid": int(name["pid"])})


def remove(paths: list[Path]) -> None:
    """Remove files and folders, those that are gone already too."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _all_below(top: Path) -> Iterator[Path]:
    """Give a file, or a folder and all that is in it; what links point to is not entered."""
    yield top
    # a scan tells links and folders without asking for each file, of which a run may have millions
    todo = [top] if top.is_dir() and not top.is_symlink() else []
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
