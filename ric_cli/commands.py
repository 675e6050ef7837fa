"""The table of `ric`'s commands; one is imported only when it is used.

So `ric --help` and usage errors cost little more than Typer itself (benchmarks/startup.py).
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    from typer.core import TyperCommand

METHOD, AROUND = "The method, in order", "Around it"
# name -> its module and function, its panel, the first line of its help
COMMANDS = {
    "describe": (
        "ric_cli.describe:describe", METHOD,
        "Write a paragraph about every target (Sec. 3.2.3, Table 4), or other texts.",
    ),
    "fit-clip": (
        "ric_cli.fit_clip:fit_clip", METHOD,
        "Fit the region judge: CLIP with gated fusion (Sec. 3.2.2, Eqs. 11 to 16).",
    ),
    "fit-blip": (
        "ric_cli.fit_blip:fit_blip", METHOD,
        "Fit the scene judge: BLIP on whole pictures and their paragraphs (Sec. 3.2.1, Eq. 11).",
    ),
    "train-unet": (
        "ric_cli.train_unet:train_unet", METHOD,
        "Fine-tune an InstructPix2Pix UNet with region and scene losses (Sec. 3.2, Eq. 10).",
    ),
    "edit": (
        "ric_cli.edit:edit", METHOD,
        "Edit pictures by instructions; each result has its source's size.",
    ),
    "eval": (
        "ric_cli.evaluate:evaluate", METHOD,
        "Score edits by CLIP-I, DINO, CLIP-T, LPIPS, FID and IS (Sec. 4).",
    ),
    "report": (
        "ric_cli.report:report", METHOD,
        "Write a page of scores, edits side by side, curves and the chain of runs.",
    ),
    "demo": (
        "ric_cli.demo:demo", AROUND,
        "Run the six commands as one chain on drawn scenes, offline and without a GPU.",
    ),
    "reproduce": (
        "ric_cli.reproduce:reproduce", AROUND,
        "Make the paper's Tables 1, 2 and 3 and a page of them, from DATA on; resumable.",
    ),
    "data": (
        "ric_cli.data:data", AROUND,
        "Write loose pictures, or any DATA, as a folder that every command reads.",
    ),
    "scenes": (
        "ric_cli.scenes:scenes", AROUND,
        "Draw scenes with exact targets, as a folder that every command reads.",
    ),
    "doctor": (
        "ric_cli.doctor:doctor", AROUND,
        "Report versions, device, disk, attention back-ends (each is tried) and weights.",
    ),
    "weights": (
        "ric_cli.weights:app", AROUND, "List, get, check and convert pretrained weights.",
    ),
    "verify": (
        "ric_cli.verify:verify", AROUND,
        "Compare edits and scores with the libraries', on your own weights.",
    ),
    "runs": ("ric_cli.runs:app", AROUND, "List runs, show one, join shards."),
    "tiny": ("ric_cli.tiny:app", AROUND, "Retrain the embedded models of --preset tiny."),
}  # fmt: skip


def load_command(name: str) -> TyperCommand | TyperGroup:
    """Import a command, with all its options."""
    # where it is installed, diffusers imports it and it warns about kernels that ric does not use
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name)(found)
        found = alone
    command: Any = get_command(found)
    command.name = name
    return command


class _Commands(TyperGroup):
    """Lists commands from the table, and imports the one that was typed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_command(listed.name) if listed and listed.name else listed, rest


app = typer.Typer(
    name="ric",
    cls=_Commands,
    help="Region in Context: text-driven image edits that belong to their picture.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},  # of every command
    rich_markup_mode="rich",
)
for _name, (_, _panel, _about) in COMMANDS.items():
    app.command(_name, rich_help_panel=_panel, help=_about)(lambda: None)


def _print_version(asked: bool) -> None:
    if asked:
        import ric

        typer.echo(f"ric {ric.__version__}")
        raise typer.Exit


@app.callback()
def _about_ric(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass
