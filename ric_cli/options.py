"""Options that several commands share, and how typed flags become a config."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, get_type_hints

import typer

from ric.config import CommandConfig, Dtype, Fit, Keep, Preset, SplitName, flag_of
from ric.config_file import load_config_file
from ric.errors import RicError
from ric.registry import defaults_of, readers_of, settings_of
from ric.setting_values import BOUNDS, Bounds, shown
from ric.settings import ConfigT, resolve_config
from ric_cli.completion import runs_of

COMMON = "Common options"
MANY = "Several processes"
DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", re.ASCII)
# which command's runs a setting of an editor may name
RUNS_OF = {"unet": "train-unet", "unet_magicbrush": "train-unet", "captions": "describe"}
UNITS = (86_400, 3_600, 60, 1)  # seconds
LONGEST = 3650 * 86_400  # seconds; a system counts to some limit

DATA_HELP = (
    "A folder with metadata.jsonl (or .csv, .parquet), a folder or file of parquet or of "
    "WebDataset's tar ('{000..099}.tar'), the address of one of these (s3://bucket/data), drawn "
    "scenes (scenes:300@64#7), a hub id such as BryanW/HumanEdit, or a benchmark in its own layout "
    "(pie-bench:DIR; docs/scoring.md lists them)."
)
Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)]
ImageSize = Annotated[
    int, typer.Option(min=8, help="Pictures become squares of this side, in pixels.")
]
SquareFit = Annotated[
    Fit, typer.Option(help="squash the picture, or crop a square that holds the region.")
]
Descriptions = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Texts in place of the data's own: a describe run, a folder of ID.txt, a table.",
        autocompletion=runs_of("describe"),
    ),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where: this process, or many on a Ray cluster.", rich_help_panel=MANY),
]
RayAddress = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="HOST:PORT",
        help="The cluster; otherwise RAY_ADDRESS, or one of this machine alone.",
        rich_help_panel=MANY,
    ),
]
Workers = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=1,
        help="Processes on Ray; otherwise one for each GPU, or CPU if there is none.",
        rich_help_panel=MANY,
    ),
]
MicroBatch = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Pairs per micro-batch; the gradient is the whole batch's."),
]
MeasureEvery = Annotated[int, typer.Option(min=1, help="Epochs between measurements on val.")]
KeepWeights = Annotated[Keep, typer.Option(help="The last weights, or the best by val.")]
Track = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="NAME", help="Log to tensorboard, wandb, mlflow, … as well."),
]
BlurToT = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=1,
        metavar="T",
        help="Fit each sample twice: also on its target, noised to a t below T, as --base sees it.",
    ),
]
EstimatingBase = Annotated[
    str,
    typer.Option(
        help="With --blur-to-t: a pipeline as train-unet's --base.",
        autocompletion=runs_of("train-unet"),
    ),
]
PastedNegatives = Annotated[
    bool,
    typer.Option(
        help="Use each target's region, pasted into its source, as a negative of its text."
    ),
]
AttributeNegatives = Annotated[
    bool,
    typer.Option(
        help="Use each text with one attribute changed as a negative of its picture: another"
        " colour, size, number, side."
    ),
]
FlattenedFit = Annotated[
    float,
    typer.Option(
        min=0, metavar="RHO", help="Fit on pixels after one adversarial step of this length (RMS)."
    ),
]
CheckpointEvery = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]


def _common_options(
    preset: Annotated[
        Preset,
        typer.Option(
            help="paper: the paper's numbers; tiny: two CPU cores, no download.",
            rich_help_panel=COMMON,
        ),
    ] = CommandConfig.preset,
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="YAML of settings, or a run.json; flags win.",
            rich_help_panel=COMMON,
            dir_okay=False,
        ),
    ] = None,
    run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="The run's folder; an unfinished run with the same settings is resumed.",
            rich_help_panel=COMMON,
        ),
    ] = None,
    runs_dir: Annotated[
        Path,
        typer.Option(
            help="The folder of numbered runs.", envvar="RIC_RUNS_DIR", rich_help_panel=COMMON
        ),
    ] = Path("runs"),
    split: Annotated[
        SplitName, typer.Option(help="Which samples.", rich_help_panel=COMMON)
    ] = CommandConfig.split,
    columns: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Map other columns: source=input_image,instruction=edit_prompt; an item of lists:"
            " instruction=prompts[0], [random] or [*].",
            rich_help_panel=COMMON,
        ),
    ] = CommandConfig.columns,
    limit: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="At most this many samples.", rich_help_panel=COMMON),
    ] = CommandConfig.limit,
    seed: Annotated[
        int, typer.Option(help="Seeds all random draws.", rich_help_panel=COMMON)
    ] = CommandConfig.seed,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:N.", rich_help_panel=COMMON)
    ] = CommandConfig.device,
    dtype: Annotated[
        Dtype,
        typer.Option(
            help="Number format of matrix products; auto: bf16 where the device has it.",
            rich_help_panel=COMMON,
        ),
    ] = CommandConfig.dtype,
    weights: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A folder searched before the hub's cache.", rich_help_panel=COMMON),
    ] = CommandConfig.weights,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="A larger picture is a failure row.", rich_help_panel=COMMON)
    ] = CommandConfig.max_pixels,
    ignore_signature: Annotated[
        bool,
        typer.Option(
            "--ignore-signature",
            help="Leave DALL-E's corner strip out of masks, losses and metrics.",
            rich_help_panel=COMMON,
        ),
    ] = CommandConfig.ignore_signature,
    stop_after: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="TIME",
            help="Stop after so long (3h50m, 90s), as at SIGTERM: a training with a checkpoint.",
            rich_help_panel=COMMON,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the settings and their cost; do nothing.",
            rich_help_panel=COMMON,
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout.", rich_help_panel=COMMON)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress.", rich_help_panel=COMMON)
    ] = False,
) -> None:
    """Declare the options of every command that reads DATA, in the order of the help page."""


def with_common_options(
    kind: type[CommandConfig], part: str = ""
) -> Callable[[Callable[..., None]], Any]:
    """Add the common options to a command, with the defaults of its config.

    The command itself declares only its own options; all values are in its context (`ctx.params`),
    from which `config_from_flags` reads them.

    Args:
        kind: The command's config.
        part: `editor` or `describer` also adds the settings in the rows of `ric.registry`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        hints = get_type_hints(command, include_extras=True)
        shared_hints = get_type_hints(_common_options, include_extras=True)
        shared = {
            name: parameter.replace(default=getattr(kind, name, parameter.default))
            for name, parameter in inspect.signature(_common_options).parameters.items()
        }
        hints |= shared_hints
        parts = {name: _option_of_parts(kind, part, name) for name in settings_of(part)}
        parameters = [
            parameter.replace(
                annotation=hints.get(name, parameter.annotation), kind=parameter.KEYWORD_ONLY
            )
            for name, parameter in (dict(own) | parts | shared).items()
        ]

        def wrapper(**values: Any) -> None:
            command(**{name: values[name] for name in own})

        wrapper.__name__ = command.__name__
        wrapper.__doc__ = command.__doc__
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {item.name: item.annotation for item in parameters}
        return wrapper

    return decorate


def _option_of_parts(kind: type[CommandConfig], part: str, name: str) -> inspect.Parameter:
    """Declare a setting that only some editors or describers read, as their rows describe it."""
    default = getattr(kind, name)
    hint = get_type_hints(kind)[name]
    readers = readers_of(part, name)
    of_each = {one: defaults_of(part, one, "paper").get(name, default) for one in readers}
    others = [f"; {one}: {value}" for one, value in of_each.items() if value != default]
    bounds = BOUNDS.get(name, Bounds())
    option = typer.Option(
        *([flag_of(name)] if default is False else []),
        min=int(bounds.least) if hint is int and name in BOUNDS else None,
        help=f"{settings_of(part)[name]} ({', '.join(readers)})",
        rich_help_panel=f"Settings of {part}s",
        autocompletion=runs_of(RUNS_OF[name]) if name in RUNS_OF else None,
        show_default=f"{default}{''.join(others)}" if others else default not in (None, ()),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[list[str] if isinstance(default, tuple) else hint, option],
    )


def seconds_of(text: str) -> int:
    """Read a duration such as `3h50m`, `90s` or `1d` as seconds.

    Raises:
        RicError: it is none, zero, or over ten years.
    """
    found = DURATION.fullmatch(text)
    parts = [int(part or 0) for part in found.groups()] if found else [0] * len(UNITS)
    seconds = sum(part * unit for part, unit in zip(parts, UNITS, strict=True))
    if not 0 < seconds <= LONGEST:
        raise RicError(f"--stop-after is {shown(text)}.", "Write it as 3h50m, 90s or 1d.")
    return seconds


def config_from_flags(kind: type[ConfigT], ctx: typer.Context) -> ConfigT:
    """Apply the preset, `--config` and the typed flags to the paper's numbers.

    Raises:
        RicError: the config file cannot be read or does not fit the command.
    """
    fields = {field for field in get_type_hints(kind) if field in ctx.params}
    typed = {name: ctx.params[name] for name in fields if was_typed(ctx, name, or_set=True)}
    typed = {name: tuple(one) if isinstance(one, list) else one for name, one in typed.items()}
    file = ctx.params.get("config")
    return resolve_config(kind, typed, from_file=load_config_file(file) if file else None)


def was_typed(ctx: typer.Context, name: str, *, or_set: bool = False) -> bool:
    """Tell whether a parameter was typed; with `or_set` also whether the environment sets it."""
    source = ctx.get_parameter_source(name)
    typed = source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")
    return typed and (or_set or source is None or source.name != "ENVIRONMENT")
