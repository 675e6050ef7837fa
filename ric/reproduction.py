"""The stages that make Tables 1, 2 and 3 of the paper, from DATA to scores.

`STAGES` is the whole of it: each stage is a command with settings, and its run has the stage's name
in one folder. A setting that names another stage, as `@fit-clip`, gets that stage's run. What a
table needs follows from these names.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ric.config import (
    MAGICBRUSH,
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    Preset,
    TrainUnetConfig,
    as_flags,
    command_of,
)
from ric.data import humanedit
from ric.errors import RicError
from ric.runs.record import read_record
from ric.settings import resolve_config

TABLES = ("table1", "table2", "table3")
HUMANEDIT = "humanedit"  # short for its hub id
NOTHING: Mapping[str, Any] = {}


class Stage(NamedTuple):
    """A command of the reproduction.

    Attributes:
        name: Its run's folder.
        kind: The command's config.
        settings: Its settings where they are not the preset's; `@NAME` is another stage's run.
        of_preset: Settings of one preset alone.
    """

    name: str
    kind: type[CommandConfig]
    settings: Mapping[str, Any] = NOTHING
    of_preset: Mapping[str, Mapping[str, Any]] = NOTHING


# The rows of each table in the paper's order: a label, and the model that edits.
# Its numbers are `paper_numbers.NUMBERS`; its edits are the stage `edit-MODEL`.
ROWS: dict[str, dict[str, str]] = {
    "table1": {
        "InstructPix2Pix": "ip2p",
        "Ours (on IP2P)": "ours-ip2p",
        "MagicBrush": "mb",
        "Ours (on MB)": "ours-mb",
        "ZONE": "zone",
        "Ours (on ZONE)": "ours-zone",
        "CDS": "cds",
        "DDPM Inversion": "ddpm-inversion",
    },
    "table2": {
        "IP2P (without)": "plain-ip2p",
        "IP2P (with)": "ours-ip2p",
        "MB (without)": "plain-mb",
        "MB (with)": "ours-mb",
    },
    "table3": {
        "IP2P (without full desc loss)": "no-scene-loss",
        "IP2P (without region desc loss)": "no-region-loss",
        "IP2P (without gated fusion)": "no-gated-fusion",
        "IP2P (with proposed loss)": "ours-ip2p",
    },
}

JUDGED = {
    "descriptions": "@describe", "region_clip": "@fit-clip", "scene_blip": "@fit-blip",
    "keep_checkpoints": 1,
}  # fmt: skip
PLAIN = {"region_loss": False, "global_loss": False, "keep_checkpoints": 1}
ON_MB = {"base": MAGICBRUSH}
# rates and lengths with which the embedded family ends in minutes, and is not unlearnt
FEW_STEPS = {"steps": 20, "lr": 1e-5}
FEW_PASSES = {"fusion_epochs": 1, "joint_epochs": 1}
SCORED = {"protocol": "paper", "partial": True}


def _training(name: str, settings: Mapping[str, Any], paper: Mapping[str, Any] = NOTHING) -> Stage:
    return Stage(f"unet-{name}", TrainUnetConfig, settings, {"paper": paper, "tiny": FEW_STEPS})


def _editing(model: str, **settings: str) -> Stage:
    return Stage(f"edit-{model}", EditConfig, settings)


def _scoring(table: str, layout: str) -> Stage:
    edits = tuple(f"{label}=@edit-{model}" for label, model in ROWS[table].items())
    return Stage(table, EvalConfig, {"edits": edits, "layout": layout, **SCORED})


STAGES = (
    Stage("describe", DescribeConfig),
    Stage("fit-clip", FitClipConfig, {"controls": False}, {"tiny": FEW_PASSES}),
    Stage("fit-clip-no-gate", FitClipConfig, {"gated_fusion": False}, {"tiny": FEW_PASSES}),
    Stage("fit-blip", FitBlipConfig, {"descriptions": "@describe"}, {"tiny": {"epochs": 1}}),
    _training("ours-ip2p", JUDGED),
    _training("ours-mb", JUDGED, paper=ON_MB),
    _training("plain-ip2p", PLAIN),
    _training("plain-mb", PLAIN, paper=ON_MB),
    _training("no-scene-loss", {**JUDGED, "global_loss": False}),
    _training("no-region-loss", {**JUDGED, "region_loss": False}),
    _training(
        "no-gated-fusion", {**JUDGED, "region_clip": "@fit-clip-no-gate", "gated_fusion": False}
    ),
    _editing("ip2p", editor="ip2p"),
    _editing("ours-ip2p", editor="ip2p", unet="@unet-ours-ip2p"),
    _editing("mb", editor="magicbrush"),
    _editing("ours-mb", editor="magicbrush", unet="@unet-ours-mb"),
    _editing("zone", editor="zone"),
    _editing("ours-zone", editor="zone", unet="@unet-ours-ip2p", unet_magicbrush="@unet-ours-mb"),
    _editing("cds", editor="cds"),
    _editing("ddpm-inversion", editor="ddpm-inversion"),
    _editing("plain-ip2p", editor="ip2p", unet="@unet-plain-ip2p"),
    _editing("plain-mb", editor="magicbrush", unet="@unet-plain-mb"),
    _editing("no-scene-loss", editor="ip2p", unet="@unet-no-scene-loss"),
    _editing("no-region-loss", editor="ip2p", unet="@unet-no-region-loss"),
    _editing("no-gated-fusion", editor="ip2p", unet="@unet-no-gated-fusion"),
    _scoring("table1", "table-1"),
    _scoring("table2", "table-2"),
    _scoring("table3", "table-3"),
)
BY_NAME = {stage.name: stage for stage in STAGES}
# hours that the paper states for one A100 (Implementation details): 7.78 for the fusion module and
# 3.47 for "the whole process", read as phase 2; 3.5 for BLIP; 16 for the noise prediction model
PAPER_HOURS: dict[type[CommandConfig], float] = {
    FitClipConfig: 7.78 + 3.47, FitBlipConfig: 3.5, TrainUnetConfig: 16,
}  # fmt: skip
# settings that the user may change: whose they are
OF_COMMAND: dict[str, type[CommandConfig]] = {
    "steps": TrainUnetConfig, "memory": TrainUnetConfig, "describer": DescribeConfig,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The tables that are asked for, and where.

    Attributes:
        data: DATA; `humanedit` is the hub's BryanW/HumanEdit, unless there is such a path.
        folder: Gets a run for each stage, `report/` and `tables.md`.
        preset: `paper` or `tiny`.
        only: Some of `TABLES`; empty: all.
        changes: Settings in place of the stages' own: `limit`, `steps`, `memory`, `describer`,
            `device`, `weights`.
    """

    data: str
    folder: Path
    preset: Preset = "paper"
    only: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_of_the_paper(self) -> bool:
        """True if the numbers may be compared with the paper's."""
        shortened = {"limit", "steps"} & self.changes.keys()
        return self.hub_id == humanedit.HUB_ID and self.preset == "paper" and not shortened

    @property
    def hub_id(self) -> str:
        """DATA, with `humanedit` replaced by its hub id."""
        named = self.data.lower() == HUMANEDIT and not Path(self.data).exists()
        return humanedit.HUB_ID if named else self.data

    def stages(self) -> list[Stage]:
        """List the stages that the tables need, each after those whose runs it reads.

        Raises:
            RicError: a table is unknown.
        """
        needed: set[str] = set()
        todo = list(self.only or TABLES)
        if unknown := [name for name in todo if name not in TABLES]:
            raise RicError(f"No table {unknown[0]!r}.", f"Choose from: {', '.join(TABLES)}.")
        while todo:
            name = todo.pop()
            needed.add(name)
            todo += references(BY_NAME[name])
        return [stage for stage in STAGES if stage.name in needed]

    def flags(self, stage: Stage) -> dict[str, Any]:
        """Return a stage's settings as they are typed, `@NAME` included."""
        typed = {**stage.settings, **stage.of_preset.get(self.preset, NOTHING)}
        for key, value in self.changes.items():
            if OF_COMMAND.get(key, stage.kind) is stage.kind:
                typed[key] = value
        if stage.kind is DescribeConfig and typed.get("limit"):
            typed["split"] = "train"  # the samples that are trained on, and no others
        return typed

    def config(self, stage: Stage) -> CommandConfig:
        """Resolve a stage's settings, with the runs of others.

        Raises:
            RicError: a setting is out of its range.
        """
        return self._resolved(stage, self.with_runs(self.flags(stage)))

    def config_alone(self, stage: Stage) -> CommandConfig:
        """Resolve a stage's settings before others have run: what they make is left out."""
        typed = self.flags(stage)
        return self._resolved(
            stage, {key: value for key, value in typed.items() if not _named_in(value)}
        )

    def with_runs(self, typed: Mapping[str, Any]) -> dict[str, Any]:
        """Replace `@NAME` by that stage's run."""

        def run_of(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(run_of, value))
            if not _named_in(value):
                return value
            head, _, name = value.rpartition("@")
            return f"{head}{self.folder / name}"

        return {key: run_of(value) for key, value in typed.items()}

    def _resolved(self, stage: Stage, typed: Mapping[str, Any]) -> CommandConfig:
        return resolve_config(stage.kind, {"data": self.hub_id, "preset": self.preset, **typed})

    def command_line(self, stage: Stage) -> str:
        """Return a stage as it is typed in a shell."""
        typed = self.with_runs(self.flags(stage))
        edits = typed.pop("edits", ())
        named = [*edits, "--data", self.hub_id] if edits else [self.hub_id]
        preset = [] if self.preset == "paper" else ["--preset", self.preset]
        words = ["ric", command_of(stage.kind), *named, *preset, *as_flags(typed)]
        return shlex.join([*words, "--run", str(self.folder / stage.name)])


def references(stage: Stage) -> list[str]:
    """List the stages whose runs a stage reads."""
    return [name for value in stage.settings.values() for name in _named_in(value)]


def _named_in(value: Any) -> list[str]:
    values = value if isinstance(value, tuple) else (value,)
    names = [text.rpartition("@") for text in values if isinstance(text, str)]
    return [name for _, at, name in names if at and name in BY_NAME]


def is_done(asked: Reproduction, stage: Stage) -> bool:
    """Tell whether a stage's run is finished."""
    run = asked.folder / stage.name
    return (run / "run.json").is_file() and read_record(run)["status"] == "done"
