"""`ric`: the one place where errors become exit codes."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

from ric.cache_folders import cache_folder
from ric.errors import RicError
from ric.interrupt import Interrupted
from ric_cli.commands import app
from ric_cli.console import say, show_error
from ric_cli.surroundings import READER_GONE, lost_output, settle


def main() -> NoReturn:
    """Run `ric` and exit.

    0 done, 1 error, 2 usage, 3 some samples failed or something was not available, 128 + the number
    of the signal that stopped it.
    """
    settle()
    try:
        app()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    except Interrupted as stopped:
        say(f"Stopped: {stopped}.")
        code = stopped.exit_code
    except (RicError, OSError) as error:
        known = _in_words(error) if isinstance(error, OSError) else error
        if known is None or os.environ.get("RIC_DEBUG") == "1":
            raise
        show_error(known)
        code = 1
    lost = lost_output()
    if lost and lost.errno not in READER_GONE:
        show_error(RicError(f"Standard output cannot be written: {lost.strerror}."))
    sys.exit(code or (1 if lost else 0))


def _in_words(error: OSError) -> RicError | None:
    """Turn an error of the system into a RicError that names the file; None if it names none."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" ({error.filename})" if error.filename else ""
        return RicError(f"The disk is full{place}.", "Free some space; repeat the command.")
    if not error.filename:
        return None
    hint = "Check the path and its permissions. RIC_DEBUG=1 shows where it was."
    file, cache = Path(os.fsdecode(error.filename)), cache_folder()
    if file.is_relative_to(cache) or cache.is_relative_to(file):
        hint = "ric's caches are there; set RIC_CACHE_DIR to a writable folder."
    reason = error.strerror or str(error)
    return RicError(f"Cannot read or write {file}: {reason}.", hint)
