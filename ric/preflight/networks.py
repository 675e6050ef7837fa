"""Which networks a command loads with its settings, as they are named and as they are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TinyCaptionerConfig,
    TinyClassifierConfig,
    TinyClipConfig,
    TinyPriorConfig,
    TinyVaeConfig,
    TrainUnetConfig,
)
from ric.models.locate import eval_networks

if TYPE_CHECKING:
    from collections.abc import Iterator


class Network(NamedTuple):
    """A network that a command loads, as it is named and as it is found."""

    name: str  # `tiny`, a run, a folder, or an id of the table or the hub
    artifact: str = ""  # what a run holds under that name
    member: str = ""  # what it is in the tiny family


# The setting that names each network; those of ric eval are in `_networks`.
NETWORKS: dict[type[CommandConfig], dict[str, Network]] = {
    DescribeConfig: {"model": Network("", "", "captioner")},
    FitClipConfig: {"clip": Network("", "region_encoder", "region_encoder")},
    FitBlipConfig: {"blip": Network("", "scene_encoder", "scene_encoder")},
    TrainUnetConfig: {
        "base": Network("", "pipeline", "pipeline"),
        "region_clip": Network("", "region_encoder", "region_encoder"),
        "scene_blip": Network("", "scene_encoder", "scene_encoder"),
        "loss_decoder": Network(""),
    },
    EditConfig: {"unet": Network("", "pipeline", "pipeline")},
    TinyVaeConfig: {"base": Network("", "vae", "pipeline/vae")},
    TinyClipConfig: {"base": Network("", "clip", "clip")},
    TinyCaptionerConfig: {
        "base": Network("", "captioner", "captioner"),
        "vision": Network("", "scene_encoder", "scene_encoder"),
    },
    TinyClassifierConfig: {"base": Network("", "scene_classifier", "scene_classifier")},
    TinyPriorConfig: {
        "base": Network("", "pipeline", "pipeline"),
        "vae": Network("", "vae", "pipeline/vae"),
    },
}


def networks_of(config: CommandConfig) -> Iterator[Network]:
    """List the networks that a command loads with these settings."""
    if isinstance(config, EvalConfig):
        clip, *others = eval_networks(config)
        yield Network(clip, member="clip")
        yield from (Network(name, member="scene_classifier") for name in others)
    for setting, network in NETWORKS.get(type(config), {}).items():
        name = getattr(config, setting)
        used = {
            "model": getattr(config, "describer", "") == "chat",
            "region_clip": getattr(config, "region_loss", False),
            "scene_blip": getattr(config, "global_loss", False),
            "loss_decoder": name != "vae",
        }.get(setting, True)
        if name is not None and used:
            yield network._replace(name=name)
