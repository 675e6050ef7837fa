"""The dry run of `ric reproduce`: the needs of each stage, and what is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from ric.config import TrainUnetConfig
from ric.data import humanedit
from ric.data.hub import cached_files
from ric.models.table import models_of
from ric.preflight.checks import find_problems
from ric.preflight.stage_cost import cost_of, missing_weights
from ric.progress import Silent
from ric.reproduction import Reproduction, is_done
from ric.weights import find_weight

if TYPE_CHECKING:
    from ric.config import CommandConfig
    from ric.preflight.stage_cost import Machine, StageCost
    from ric.progress import Progress
    from ric.weights import Weight


class Planned(NamedTuple):
    """The needs of a reproduction.

    Attributes:
        machine: Where it is to run, in words.
        stages: What each stage needs, by name; those that are done need nothing.
        done: The stages that are done.
        missing: Weights that are downloaded, by id.
        downloads: Bytes of DATA and weights by the stage that is the first to need them.
        problems: What keeps it from running as it stands.
        is_of_the_paper: Whether the paper's hours are those of the same work.
    """

    machine: Machine
    stages: dict[str, StageCost]
    done: list[str]
    missing: dict[str, Weight]
    downloads: dict[str, int]
    problems: list[str]
    is_of_the_paper: bool


def plan_reproduction(
    asked: Reproduction, machine: Machine, progress: Progress | None = None
) -> Planned:
    """Estimate what the stages that are not done need, and find what is missing.

    Counting the memory of a UNet's step takes seconds; `progress` shows each stage.

    Raises:
        RicError: a table is unknown, or a setting is out of its range.
    """
    stages = asked.stages()
    done = [stage.name for stage in stages if is_done(asked, stage)]
    configs = {stage.name: asked.config_alone(stage) for stage in stages if stage.name not in done}
    costs = {}
    with (progress or Silent()).stage("estimating", len(configs), unit="stages") as estimating:
        for name, config in configs.items():
            costs[name] = cost_of(config, asked.folder, machine)
            estimating.advance()
    problems = [
        f"{name} on {machine.name}: {cost.problem}" for name, cost in costs.items() if cost.problem
    ]
    missing: dict[str, Weight] = {}
    downloads: dict[str, int] = {}
    for name, config in configs.items():
        size = 0 if downloads else _data_bytes(asked)
        for weight in missing_weights(config):
            if weight.id not in missing:
                missing[weight.id] = weight
                size += weight.size_bytes
        downloads[name] = size
    found: dict[str, str] = {}
    for config in configs.values():
        for problem in find_problems(with_tiny_judges(config), asked.folder):
            # the same weight, or DATA, is missing for several commands
            about = problem.message.partition(", which ric ")[0]
            is_weight = about.partition(" (")[0] in missing  # listed with how to get it
            hint = None if is_weight else problem.hint
            found.setdefault(about, " ".join(filter(None, (problem.message, hint))))
    problems += found.values()
    return Planned(
        machine, costs, done, missing, downloads, problems, is_of_the_paper=asked.is_of_the_paper
    )


def weights_read(asked: Reproduction) -> list[Weight]:
    """List the published weights that the stages load, each once, wherever they are."""
    models = (model for stage in asked.stages() for model in models_of(asked.config_alone(stage)))
    found = (find_weight(model.name) for model in models)
    return list({weight.id: weight for weight in found if weight}.values())


def _data_bytes(asked: Reproduction) -> int:
    is_here = asked.hub_id != humanedit.HUB_ID or cached_files(asked.hub_id)[0]
    return 0 if is_here else humanedit.BYTES


def with_tiny_judges(config: CommandConfig) -> CommandConfig:
    """Name judges that are there, for checks before the judges are fitted."""
    if isinstance(config, TrainUnetConfig):
        return replace(config, region_clip="tiny", scene_blip="tiny")
    return config
