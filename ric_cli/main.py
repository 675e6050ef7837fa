"""`ric`: the one place where errors become exit codes.

Until `settle` has run, a Ctrl-C is Python's own KeyboardInterrupt. So nothing that takes time is
imported before `main` is there to tell of it in one line.
"""

from __future__ import annotations

import sys

from ric.errors import RicError

TYPE_CHECKING = False  # what type checkers take it for; `typing` itself takes time
if TYPE_CHECKING:
    from typing import NoReturn, TypeVar

    Stop = TypeVar("Stop", bound=BaseException)


def main() -> NoReturn:
    """Run `ric` and exit.

    0 done, 1 error, 2 usage, 3 some samples failed or something was not available, 128 + the number
    of the signal that stopped it.
    """
    try:
        code = _run()
    except KeyboardInterrupt:
        from signal import SIGINT

        from ric.interrupt import Interrupted
        from ric_cli.console import say

        say(f"Stopped: {Interrupted(SIGINT)}.")
        code = 128 + SIGINT
    sys.exit(code)


def _run() -> int:
    """Run the typed command and return its exit code."""
    from ric.interrupt import Interrupted
    from ric_cli.console import say
    from ric_cli.surroundings import READER_GONE, lost_output, settle

    try:
        settle()
        app()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    except (RicError, OSError) as error:
        code = _say_error(error)
    except (Interrupted, Exception) as error:
        stopped = _before(error, Interrupted)
        if stopped is None:
            raise
        say(f"Stopped: {stopped}.")
        code = stopped.exit_code
    lost = lost_output()
    if lost and lost.errno not in READER_GONE:
        _say_error(RicError(f"Standard output cannot be written: {lost.strerror}."))
    return code or (1 if lost else 0)


def app() -> None:
    """Do what was typed, as Typer reads it."""
    from ric_cli import commands

    commands.app()


def _before(error: BaseException | None, kind: type[Stop]) -> Stop | None:
    """Find an error of this kind among the causes: imports may wrap it in a RuntimeError."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _say_error(error: RicError | OSError) -> int:
    """Show an error in one line and a hint; one without a reason is raised as it is."""
    import os

    from ric_cli.console import show_error

    known = _in_words(error) if isinstance(error, OSError) else error
    if known is None or os.environ.get("RIC_DEBUG") == "1":
        raise error
    show_error(known)
    return 1


def _in_words(error: OSError) -> RicError | None:
    """Turn an error of the system into a RicError that names the file; None if it has no number."""
    import errno
    import os
    from pathlib import Path

    from ric.cache_folders import cache_folder

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" ({error.filename})" if error.filename else ""
        return RicError(f"The disk is full{place}.", "Free some space; repeat the command.")
    if error.errno is None:
        return None
    if not error.filename:  # a write into an open file that the disk refuses, for one
        reason = error.strerror or str(error)
        return RicError(
            f"The system has refused to read or write: {reason}.", "RIC_DEBUG=1 shows where it was."
        )
    hint = "Check the path and its permissions. RIC_DEBUG=1 shows where it was."
    file, cache = Path(os.fsdecode(error.filename)), cache_folder()
    if file.is_relative_to(cache) or cache.is_relative_to(file):
        hint = "ric's caches are there; set RIC_CACHE_DIR to a writable folder."
    reason = error.strerror or str(error)
    return RicError(f"Cannot read or write {file}: {reason}.", hint)
