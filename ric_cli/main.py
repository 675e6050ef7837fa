"""The `ric` app: every command registered, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import NoReturn

import typer

from ric.errors import RicError
from ric.interrupt import Interrupted
from ric_cli.console import say, show_error
from ric_cli.data import data
from ric_cli.demo import demo
from ric_cli.describe import describe
from ric_cli.doctor import doctor
from ric_cli.edit import edit
from ric_cli.evaluate import evaluate
from ric_cli.fit_blip import fit_blip
from ric_cli.fit_clip import fit_clip
from ric_cli.runs import app as runs
from ric_cli.scenes import scenes
from ric_cli.surroundings import READER_GONE, lost_output, settle
from ric_cli.tiny import app as tiny
from ric_cli.train_unet import train_unet
from ric_cli.weights import app as weights

# where it is installed diffusers imports it, and it warns of kernels that ric does not use
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

METHOD, AROUND = "The method, in order", "Around it"

app = typer.Typer(
    name="ric",
    help="Region in Context: text-driven image edits that belong to their picture.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for name, command in {
    "describe": describe,
    "fit-clip": fit_clip,
    "fit-blip": fit_blip,
    "train-unet": train_unet,
    "edit": edit,
    "eval": evaluate,
}.items():
    app.command(name, rich_help_panel=METHOD)(command)
app.command("demo", rich_help_panel=AROUND)(demo)
app.command("data", rich_help_panel=AROUND)(data)
app.command("scenes", rich_help_panel=AROUND)(scenes)
app.command("doctor", rich_help_panel=AROUND)(doctor)
app.add_typer(weights, name="weights", rich_help_panel=AROUND)
app.add_typer(runs, name="runs", rich_help_panel=AROUND)
app.add_typer(tiny, name="tiny", rich_help_panel=AROUND)


def main() -> NoReturn:
    """Run `ric` and exit.

    0 done, 1 error, 2 usage, 3 some samples failed, 128 + a signal's number where one stopped it.
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
    """Say what the system refused to do with which file; None when it names none."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" ({error.filename})" if error.filename else ""
        return RicError(f"The disk is full{place}.", "Free some space; repeat the command.")
    if not error.filename:
        return None
    hint = "Check the path, and that you may read and write there. RIC_DEBUG=1 shows where it was."
    reason = error.strerror or str(error)
    return RicError(f"Cannot read or write {error.filename}: {reason}.", hint)
