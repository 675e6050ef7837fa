"""The `ric` app: every command registered, and the one place where errors become exit codes."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

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
from ric_cli.tiny import app as tiny
from ric_cli.train_unet import train_unet
from ric_cli.weights import app as weights

if TYPE_CHECKING:
    from types import FrameType

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
    """Run `ric` and exit: 0 done, 1 error, 2 usage, 3 some samples failed, 130 and 143 stopped."""
    # libraries draw bars and warn on their own otherwise
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except RicError as error:
        if os.environ.get("RIC_DEBUG") == "1":
            raise
        show_error(error)
        sys.exit(1)
    except Interrupted as stopped:
        say(f"Stopped: {stopped}.")
        sys.exit(stopped.exit_code)
    except BrokenPipeError:
        # the reader of our output went away (ric runs ls | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        known = _in_words(error)
        if known is None or os.environ.get("RIC_DEBUG") == "1":
            raise
        show_error(known)
        sys.exit(1)
    sys.exit(0)


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


def _stop(number: int, frame: FrameType | None) -> None:
    # a second one while we clean up ends it at once
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, lambda number, frame: os._exit(128 + number))
    raise Interrupted(number)
