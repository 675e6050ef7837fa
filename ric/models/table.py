"""The models that each command loads: a row for each setting that names one.

Preflight, the memory planner, `ric weights`, `ric doctor`, `ric eval`'s networks and every recipe
read this table. It imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.config import (
    FELZENSZWALB,
    MAGICBRUSH,
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
    TinyScoreConfig,
    TinyVaeConfig,
    TrainUnetConfig,
    command_of,
)
from ric.data.drawn_scenes import is_scenes
from ric.metric_table import METRICS, OF_SCENES, OWN_NETWORK, metrics_of
from ric.registry import DESCRIBERS, EDITORS, JUDGES, further_models, model_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.metric_table import Metric


class ModelRow(NamedTuple):
    """A setting that names a model, and what its value may stand for.

    Attributes:
        setting: A field of the command's config; its value is `tiny`, a run, a folder or a hub id.
            Where the config has no such field, `tiny` is meant whatever the settings are.
        tiny: The member of the embedded family that `tiny` means.
        artifact: Which artifact of a run is used; "" where runs have none of this kind.
        used: Whether the command loads it with these settings.
        known: The rows of the table of weights that it may name.
        recorded: What a run's record calls it; "" for the name of `tiny`'s member.
    """

    setting: str
    tiny: str
    artifact: str = ""
    used: Callable[[Any], bool] = lambda config: True
    known: tuple[str, ...] = ()
    recorded: str = ""


# what the rows below may name of `weights.WEIGHTS`
PIPELINES = (EditConfig.unet, MAGICBRUSH)
# what `ric tiny score` scores of the embedded family
SCORED_MEMBERS = (
    "pipeline/vae", "region_encoder", "scene_encoder", "captioner", "scene_classifier",
)  # fmt: skip
VLMS = ("deepseek-ai/deepseek-vl2-tiny", "deepseek-community/deepseek-vl-1.3b-chat")


def _scores_scenes(config: EvalConfig) -> bool:
    """Tell whether `ric eval` computes a metric of drawn scenes."""
    asked = set(metrics_of(config)) & set(OF_SCENES)
    return bool(asked) and is_scenes(config.data)


# of `ric edit --candidates`
CHOOSING_JUDGES = {"region_clip": "region_encoder", "scene_blip": "scene_encoder"}


def judges_choose(config: EditConfig) -> bool:
    """Tell whether judges choose among candidates."""
    return config.candidates > 1 and config.choose_by == "judges"


# what predicts the pictures that a fit with --blur-to-t sees; fits do not need it otherwise, so the
# table of weights does not name them beside it
ESTIMATING_BASE = ModelRow(
    "base", "pipeline", "pipeline", lambda config: config.blur_to_t is not None
)
MODELS: dict[type[CommandConfig], tuple[ModelRow, ...]] = {
    DescribeConfig: (
        ModelRow(
            "model",
            "captioner",
            used=lambda config: model_of("describer", config.describer) == "model",
            known=VLMS,
        ),
    ),
    FitClipConfig: (
        ModelRow(
            "clip", "region_encoder", "region_encoder", known=("openai/clip-vit-base-patch16",)
        ),
        ESTIMATING_BASE,
    ),
    FitBlipConfig: (
        ModelRow(
            "blip", "scene_encoder", "scene_encoder", known=("Salesforce/blip-itm-base-coco",)
        ),
        ESTIMATING_BASE,
    ),
    TrainUnetConfig: (
        ModelRow("base", "pipeline", "pipeline", known=PIPELINES),
        ModelRow(
            "region_clip", "region_encoder", "region_encoder", lambda config: config.region_loss
        ),
        ModelRow("scene_blip", "scene_encoder", "scene_encoder", lambda config: config.global_loss),
        ModelRow(
            "loss_decoder",
            "loss_decoder",
            used=lambda config: config.loss_decoder != "vae",
            known=("madebyollin/taesd",),
        ),
    ),
    EditConfig: (
        ModelRow(
            "unet",
            "pipeline",
            "pipeline",
            lambda config: model_of("editor", config.editor) == "unet",
            PIPELINES,
        ),
        ModelRow(
            "unet_magicbrush",
            "pipeline",
            "pipeline",
            lambda config: "unet_magicbrush" in further_models(config.editor),
            PIPELINES,
            recorded="pipeline_magicbrush",
        ),
        ModelRow(
            "segmenter",
            "segmenter",
            used=lambda config: (
                "segmenter" in further_models(config.editor) and config.segmenter != FELZENSZWALB
            ),
            known=("facebook/sam-vit-huge",),
        ),
        ModelRow(
            "mask_text_model",
            "text_segmenter",
            used=lambda config: config.mask_text is not None,
            known=(
                EditConfig.mask_text_model,
                "facebook/sam3",
                "IDEA-Research/grounding-dino-tiny",
            ),
        ),
        ModelRow(
            "mask_text_sam",
            "segmenter",
            used=lambda config: config.mask_text_sam is not None,
            known=("facebook/sam-vit-base", "facebook/sam-vit-huge"),
            recorded="text_segmenter_sam",
        ),
        *(
            ModelRow(setting, judge, judge, judges_choose)
            for setting, judge in CHOOSING_JUDGES.items()
        ),
        ModelRow(
            "text_to_image",
            "text_to_image",
            "text_to_image",
            lambda config: model_of("editor", config.editor) == "text_to_image",
            ("CompVis/stable-diffusion-v1-4",),
        ),
    ),
    EvalConfig: (
        # beside EVAL_NETWORKS: what reads drawn scenes
        ModelRow("scene_classifier", "scene_classifier", used=_scores_scenes),
        ModelRow(
            "region_clip",
            "region_encoder",
            "region_encoder",
            lambda config: "context_consistency" in metrics_of(config),
        ),
        ModelRow(
            "judge_model",
            "captioner",
            used=lambda config: model_of("judge", config.judge) == "judge_model",
            recorded="judge",
        ),
    ),
    TinyVaeConfig: (ModelRow("base", "pipeline/vae", "vae"),),
    TinyClipConfig: (ModelRow("base", "clip", "clip"),),
    TinyCaptionerConfig: (
        ModelRow("base", "captioner", "captioner"),
        ModelRow("vision", "scene_encoder", "scene_encoder"),
    ),
    TinyClassifierConfig: (ModelRow("base", "scene_classifier", "scene_classifier"),),
    TinyPriorConfig: (
        ModelRow("base", "pipeline", "pipeline"),
        ModelRow("vae", "pipeline/vae", "vae"),
    ),
    TinyScoreConfig: tuple(ModelRow(member, member) for member in SCORED_MEMBERS),
}


# What each member's folder must hold: a row of `model_files.PARTS`; those not listed are a network.
KINDS = {
    "pipeline": "pipeline",
    "text_to_image": "pipeline",
    "region_encoder": "region_encoder",
    "scene_encoder": "scene_encoder",
    "captioner": "describer",
    "segmenter": "segmenter",
    "text_segmenter": "text segmenter",
    "clip": "text and image model",
}


def kind_of(config: CommandConfig, row: ModelRow) -> str:
    """Return what the folder of a setting must hold; "" where code from outside reads it."""
    if isinstance(config, EditConfig) and config.editor not in EDITORS:
        return ""
    if isinstance(config, DescribeConfig) and config.describer not in DESCRIBERS:
        return ""
    if row.setting == "judge_model" and isinstance(config, EvalConfig):
        return "describer" if config.judge in JUDGES else ""
    return KINDS.get(row.tiny, "network")


class NamedModel(NamedTuple):
    """A model that a command loads: the value of its setting, and its row."""

    name: str
    row: ModelRow


def rows_of(config: CommandConfig) -> tuple[ModelRow, ...]:
    """List the rows of a command; empty where none of its settings names a model."""
    kinds = type(config).__mro__
    return next((MODELS[kind] for kind in kinds if kind in MODELS), ())


def row_of(config: CommandConfig, setting: str) -> ModelRow:
    """Return the row of a setting."""
    return next(row for row in rows_of(config) if row.setting == setting)


def uses(config: CommandConfig, setting: str) -> bool:
    """Tell whether a command loads the model of a setting."""
    return row_of(config, setting).used(config)


def models_of(config: CommandConfig) -> Iterator[NamedModel]:
    """List the models that a command loads with these settings."""
    if isinstance(config, EvalConfig):
        for network, name in eval_networks(config).items():
            is_clip = network == "clip"
            yield NamedModel(name, ModelRow("clip" if is_clip else "", EVAL_NETWORKS[network].tiny))
    for row in rows_of(config):
        name = getattr(config, row.setting, "tiny")
        if name is not None and row.used(config):
            yield NamedModel(name, row)


class EvalNetwork(NamedTuple):
    """A metric network: its name according to the settings, and its stand-in in the tiny family.

    Attributes:
        named: Returns its name outside the embedded family.
        tiny: The member of the embedded family that takes its place.
        known: The rows of the table of weights that it may be.
        recorded: What a run's record calls its stand-in; "" for the name of `tiny`'s member.
    """

    named: Callable[[EvalConfig], str]
    tiny: str
    known: tuple[str, ...]
    recorded: str = ""


def _own_network(name: str, metric: Metric) -> EvalNetwork:
    """Return the row of a metric's own network, by the metric's row."""
    member = "" if metric.tiny == "scene_classifier" else name  # "clip" is that of --clip
    return EvalNetwork(lambda config: metric.network, metric.tiny, (metric.network,), member)


# by the names that METRICS has for them; a metric's own by the metric's
EVAL_NETWORKS = {
    "clip": EvalNetwork(
        lambda config: config.clip,
        "clip",
        ("openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14"),
    ),
    "dino": EvalNetwork(
        lambda config: config.dino,
        "scene_classifier",
        ("facebook/dino-vits16", "facebook/dino-vitb8"),
    ),
    "inception": EvalNetwork(
        lambda config: "inception-2015-12-05", "scene_classifier", ("inception-2015-12-05",)
    ),
    "lpips": EvalNetwork(
        lambda config: f"lpips-{config.lpips_net}",
        "scene_classifier",
        ("lpips-alex", "lpips-vgg", "lpips-squeeze"),
    ),
    # beside --lpips-net, of what lies outside or inside a mask
    "lpips-squeeze": EvalNetwork(
        lambda config: "lpips-squeeze", "scene_classifier", ("lpips-squeeze",)
    ),
    **{name: _own_network(name, METRICS[name]) for name in OWN_NETWORK},
}


def eval_networks(config: EvalConfig) -> dict[str, str]:
    """Name the networks that the metrics of `ric eval` use; `tiny` is the embedded family's."""
    names = [name for name in metrics_of(config) if name in METRICS]
    asked = {name if name in OWN_NETWORK else METRICS[name].network for name in names}
    own = ("clip", "dino")  # settings name these
    return {
        network: "tiny" if config.preset == "tiny" and network not in own else row.named(config)
        for network, row in EVAL_NETWORKS.items()
        if network in asked
    }


def commands_for(weight: str) -> tuple[str, ...]:
    """List which of the six commands may load a row of the table of weights.

    Args:
        weight: Its id; `tiny`, the embedded family, serves all of them.
    """
    loads = {
        command_of(kind): {name for row in MODELS[kind] for name in row.known} for kind in MODELS
    }
    loads["eval"] = {name for network in EVAL_NETWORKS.values() for name in network.known}
    return tuple(
        command
        for command, names in loads.items()
        if not command.startswith("tiny ") and (weight in names or weight == "tiny")
    )
