"""The cost of a command: steps, memory, disk space, and arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)
from ric.device import pick_device, pick_dtype
from ric.errors import RicError
from ric.models.locate import find
from ric.models.table import PIPELINES, NamedModel, models_of, uses
from ric.weights import find_weight, size_in_words

if TYPE_CHECKING:
    from pathlib import Path

# Stable Diffusion 1.5's UNet with eight input channels, float32
PAPER_UNET = 4 * 859_532_484
# phase 1's cache of a sample: ViT-B/16's patches of crop and image, and their width
PAPER_CLIP = FitClipConfig.clip
TOKENS_OF_CLIP = 2 * 14 * 14
WIDTH_OF_CLIP = 512
# the embeddings of an instruction for SD1.5's UNet, and of the judges' two texts
NUMBERS_OF_TEXTS = 77 * 768 + 512 + 256
# GFLOP a picture at the paper's sizes, 2 per multiply-add, counted with torch's FlopCounterMode:
# CLIP ViT-B/16 forward 35, + input gradient 72, + all gradients 105; BLIP ViT-B/16 at 384 px 111,
# 234, 333; SD1.5's UNet forward and backward at 256 px 537, forward at 512 px 803; its VAE's
# decoder with gradient at 256 px 1,247, a small one's 71. The fusion's own arithmetic is 11.
GFLOP_TOKENS = 2 * 35
GFLOP_FUSION_STEP = 33
GFLOP_JOINT_STEP = 2 * 105 + 33
GFLOP_BLIP = 111
GFLOP_BLIP_STEP = 333
GFLOP_UNET_STEP = 537
GFLOP_DECODE = 1247
GFLOP_SMALL_DECODE = 71
GFLOP_REGION_LOSS = 2 * 72
GFLOP_GLOBAL_LOSS = 234
GFLOP_EVALUATION = 803  # of SD1.5's UNet, at 512 px


def step_count(config: CommandConfig, samples: int | None) -> int | None:
    """Count the optimizer's steps; None if nothing trains or the number of samples is unknown."""
    if isinstance(config, TrainUnetConfig):
        return config.steps
    if samples is None:
        return None
    samples *= _views(config)
    if isinstance(config, FitClipConfig):
        epochs = config.fusion_epochs + config.joint_epochs
        return epochs * -(-samples // config.batch_size)
    if isinstance(config, FitBlipConfig):
        return config.epochs * -(-samples // config.batch_size)
    return None


def _views(config: CommandConfig) -> int:
    """Count how often an epoch shows a sample."""
    return 2 if getattr(config, "blur_to_t", None) is not None else 1


def _pictures(config: FitClipConfig | FitBlipConfig) -> int:
    """Count how many pictures a judge embeds for each pair: negatives, the adversarial step's."""
    negatives = config.pasted_negatives or getattr(config, "source_negatives", False)
    return 1 + negatives + (config.flatten > 0)


def cache_bytes(config: CommandConfig, samples: int | None) -> dict[str, int]:
    """Estimate what a training stores in ric's cache, by part: squares, tokens, encodings."""
    if samples is None or not isinstance(config, (FitClipConfig, FitBlipConfig, TrainUnetConfig)):
        return {}
    sources = isinstance(config, TrainUnetConfig) or bool(
        getattr(config, "source_negatives", False) or getattr(config, "pasted_negatives", False)
    )
    pictures = 2 if sources or _views(config) == 2 else 1
    number = pick_dtype(config.dtype, pick_device(config.device)).itemsize
    sizes = {"8-bit squares": samples * pictures * 3 * config.image_size**2}
    if isinstance(config, FitClipConfig) and config.fusion_epochs and config.clip == PAPER_CLIP:
        tokens = TOKENS_OF_CLIP if config.gated_fusion else 1
        sizes["CLIP's tokens"] = samples * _views(config) * tokens * WIDTH_OF_CLIP * number
    if isinstance(config, TrainUnetConfig) and config.cache:
        weight = find_weight(config.base)
        if weight and weight.kind == "hub":
            views = 2 if config.flip else 1
            latents = views * 3 * 4 * (config.image_size // 8) ** 2  # float32
            sizes["encodings"] = samples * (4 * latents + number * NUMBERS_OF_TEXTS)
    return sizes


def cache_sizes(config: CommandConfig, samples: int | None) -> dict[str, str]:
    """Say what a training stores in ric's cache; empty for other commands."""
    sizes = cache_bytes(config, samples)
    words = ", ".join(f"{size_in_words(size)} ({name})" for name, size in sizes.items())
    return {"cache": words} if words else {}


class RunBytes(NamedTuple):
    """The disk space of a training's run at most, in bytes.

    Attributes:
        checkpoints: How many there are at once.
        checkpoint: The size of each; 0 where they are small, as a LoRA's.
        result: The size of what the next command reads.
    """

    checkpoints: int
    checkpoint: int
    result: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.checkpoints * self.checkpoint + self.result


def run_bytes(config: CommandConfig, runs_dir: Path) -> RunBytes | None:
    """Estimate a training's run; None for other commands, or while the model is not here."""
    if not isinstance(config, (FitClipConfig, FitBlipConfig, TrainUnetConfig)):
        return None
    model = next(models_of(config))
    trained = _weight_bytes(model, config, runs_dir, trained=True)
    if trained is None:
        return None
    result = trained
    copies: float = 3  # weights and two moments
    if isinstance(config, TrainUnetConfig):
        result = _weight_bytes(model, config, runs_dir, trained=False) or trained
        copies = (1.5 if config.adam_8bit else 3) + config.ema
        if config.lora_rank:
            copies = 0
    held = config.keep_checkpoints + 1  # one more while it is written
    return RunBytes(held, int(copies * trained), result)


def run_size(config: CommandConfig, runs_dir: Path) -> dict[str, str]:
    """Say how much disk space a training's run takes at most: checkpoints and the model.

    It is unknown until the model is on this machine.
    """
    if not isinstance(config, (FitClipConfig, FitBlipConfig, TrainUnetConfig)):
        return {}
    sizes = run_bytes(config, runs_dir)
    if sizes is None:
        return {"disk": "unknown until the model is here, and the cache"}
    name = "the pipeline" if isinstance(config, TrainUnetConfig) else "the fitted judge"
    result = f"{size_in_words(sizes.result)} ({name})"
    if not sizes.checkpoint:
        return {"disk": f"{result}, small checkpoints, and the cache"}
    words = f"{sizes.checkpoints} checkpoints of {size_in_words(sizes.checkpoint)} at most"
    total = size_in_words(sizes.total)
    return {"disk": f"{total} in the run: {words}, {result}; and the cache"}


def memory_needed(config: CommandConfig, runs_dir: Path) -> dict[str, str]:
    """Estimate the memory that is certain to be used: the weights, and copies of trained ones.

    With `--memory` all of a step is counted, and the plan is shown.

    Raises:
        RicError: no plan fits into `--memory`.
    """
    if isinstance(config, TrainUnetConfig) and config.memory is not None:
        from ric.memory.plan import NotHereError, plan_for

        try:
            return {"memory": plan_for(config, runs_dir).in_words()}
        except NotHereError as error:
            return {"memory": error.message}
    if not any(models_of(config)):
        return {}
    size = certain_memory(config, runs_dir)
    if not size:
        return {"memory": "unknown until the model is here"}
    copies = copies_in_memory(config)
    if copies > 1:
        words = "weights, gradients, two moments" + (", EMA" if copies == 5 else "")
        return {"memory": f"{size_in_words(size)} ({words}, float32), and activations"}
    if getattr(config, "lora_rank", None):
        return {"memory": f"{size_in_words(size)} (weights), updates, and activations: --memory GB"}
    return {"memory": f"at least {size_in_words(size)} (the weights), and activations"}


def copies_in_memory(config: CommandConfig) -> int:
    """Count how often the trained weights are held: gradients, moments and EMA; 1 if none are."""
    trains = isinstance(config, (FitClipConfig, FitBlipConfig, TrainUnetConfig))
    if not trains or getattr(config, "lora_rank", None):
        return 1
    return 5 if getattr(config, "ema", False) else 4


def certain_memory(config: CommandConfig, runs_dir: Path) -> int | None:
    """Count the bytes of the weights and of the copies of trained ones; None if unknown."""
    # ZONE loads a pipeline that both of its settings name once
    models = list({(model.name, model.row.tiny): model for model in models_of(config)}.values())
    trains = isinstance(config, (FitClipConfig, FitBlipConfig, TrainUnetConfig))
    if trains:
        # the judges are not trained
        models = models[:1]
    sizes = [_weight_bytes(model, config, runs_dir, trained=trains) for model in models]
    return copies_in_memory(config) * sum(known for known in sizes if known) or None


def _weight_bytes(
    model: NamedModel, config: CommandConfig, runs_dir: Path, *, trained: bool
) -> int | None:
    """Sum a model's weight files; of a pipeline that is trained, only the UNet's.

    A model that is not here has its size in the table of weights; that has no size for a UNet
    alone, but the paper's is known.
    """
    weight = find_weight(model.name)
    try:
        place = find(config, model, runs_dir)
    except RicError:
        return None
    if place is None:
        if trained and model.name in PIPELINES:
            return PAPER_UNET
        one_model = weight and (not trained or model.row.artifact != "pipeline")
        return weight.size_bytes if weight and one_model else None
    if place.is_file():
        return place.stat().st_size
    unet = place / "unet"
    files = (unet if trained and unet.is_dir() else place).rglob("*.safetensors")
    size = sum(file.stat().st_size for file in files)
    # the embedded family is stored in half precision and used as float32
    return (2 * size if model.name == "tiny" else size) or None


def why_no_time(config: CommandConfig, samples: int | None) -> str:
    """Explain why `arithmetic` returns None."""
    if isinstance(config, (DescribeConfig, EvalConfig)):
        return "not estimated for this command"
    if samples is None:
        return "not estimated (the number of samples is not known)"
    return "not estimated (not the paper's models)"


def arithmetic(config: CommandConfig, samples: int | None, steps: int | None) -> float | None:
    """Count the GFLOP of a command with the paper's models; None for other models."""
    paper = {
        FitClipConfig: PAPER_CLIP,
        FitBlipConfig: FitBlipConfig.blip,
    }
    if config.preset == "tiny" or samples is None:
        return None
    samples *= _views(config)
    if isinstance(config, FitClipConfig) and config.clip == paper[FitClipConfig]:
        # phase 1 runs the backbone once, and its own fusion beside those of the controls
        fusions = 3 if config.controls and config.gated_fusion and config.sees == "both" else 1
        backbone = GFLOP_TOKENS if config.fusion_epochs else 0
        again = GFLOP_TOKENS if config.micro_batch else 0
        return samples * (
            backbone
            + config.fusion_epochs * fusions * GFLOP_FUSION_STEP
            + config.joint_epochs * _pictures(config) * (GFLOP_JOINT_STEP + again)
        )
    if isinstance(config, FitBlipConfig) and config.blip == paper[FitBlipConfig]:
        again = GFLOP_BLIP if config.micro_batch else 0
        return samples * _pictures(config) * config.epochs * (GFLOP_BLIP_STEP + again)
    area = (getattr(config, "image_size", 256) / 256) ** 2
    if isinstance(config, TrainUnetConfig) and steps is not None:
        region, scene = uses(config, "region_clip"), uses(config, "scene_blip")
        decode = GFLOP_SMALL_DECODE if uses(config, "loss_decoder") else GFLOP_DECODE
        one = GFLOP_UNET_STEP * area + (region or scene) * decode * area
        one += region * GFLOP_REGION_LOSS + scene * GFLOP_GLOBAL_LOSS
        return steps * config.batch_size * one
    if isinstance(config, EditConfig) and (evaluations := unet_evaluations(config)):
        return samples * evaluations * GFLOP_EVALUATION * area / 4
    return None


def unet_evaluations(config: EditConfig) -> int | None:
    """Count how often an editor runs a UNet on one picture's latents; None for one of your own.

    CDS's gradient, of a pass with the target's caption, counts as one more.
    """
    gradient = 2 if config.contrast_weight else 0
    of_editors = {
        "ip2p": 3 * config.steps,  # with text and picture, with the picture, with neither
        "magicbrush": 3 * config.steps,
        "zone": 2 * 3 * config.steps,
        "ddpm-inversion": 4
        * (config.steps - config.skip),  # source and edit, without and with text
        "cds": (4 + gradient) * config.steps,
        "none": 0,
    }
    of_one = of_editors.get(config.editor)
    return None if of_one is None else of_one * config.candidates
