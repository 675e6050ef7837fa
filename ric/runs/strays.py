"""Strays in a run's folder: links out of it, and half-written files of killed processes."""

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

# a temporary file's name: a dot, the final name and the writer: .run.json.node_1f2e3d4c.4711
ASIDE = re.compile(r"\..+\.(?P<place>\w+)\.(?P<pid>\d+)")


def refuse_links_out(run: Path, part: str = "") -> None:
    """Refuse links that lead out of a run: its folder may come from an untrusted source.

    Args:
        run: The run's folder, which may itself be reached by a link.
        part: Only this file or folder of it.

    Raises:
        RicError: there is such a link; names the first.
    """
    within = run.resolve()
    for path in _all_below(run / part):
        if path.is_symlink() and not path.resolve().is_relative_to(within):
            raise RicError(
                f"{path} is a link out of its run, to {os.readlink(path)}.",
                "If you trust it, replace the link by what it points to.",
            )


def half_written(run: Path) -> list[Path]:
    """List other writers' temporary files in a run that are not yet renamed."""
    claims, mine = run / "claims", writer_name()
    return [
        path
        for path in _all_below(run)
        if ASIDE.fullmatch(path.name)
        and not path.name.endswith(f".{mine}")
        and claims not in path.parents
    ]


def left_beside(path: Path) -> list[Path]:
    """List the temporary files beside `path` of processes of this machine that have ended."""
    return [one for one in path.parent.iterdir() if of_gone_writer(one)]


def of_gone_writer(path: Path) -> bool:
    """Tell whether `path` is a temporary file of a process of this machine that has ended."""
    name = ASIDE.fullmatch(path.name)
    here = writer_name().rpartition(".")[0]
    if name is None or name["place"] != here:
        return False
    return not is_alive({"host": socket.gethostname(), "pid": int(name["pid"])})


def remove(paths: list[Path]) -> None:
    """Remove files and folders; those already gone are no error."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _all_below(top: Path) -> Iterator[Path]:
    """Yield a file, or a folder and everything in it, without following links."""
    yield top
    # scandir knows links and folders without a stat per file, of which a run may have millions
    todo = [top] if top.is_dir() and not top.is_symlink() else []
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                yield Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
