"""What can be known before any network is loaded: are DATA and models there, and what will it cost?

Nothing here imports torch until the cost is asked for, so a missing model is named within a second
and not after the ten that the libraries take to load.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
    as_dict,
)
from ric.errors import RicError
from ric.run_record import find_artifact, find_run
from ric.weights import check_weights, find_weight, is_present, resolve_weights, size_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

# Which settings name a model, and what a run of which command holds under that name.
MODELS: dict[type[CommandConfig], dict[str, str]] = {
    DescribeConfig: {"model": ""},
    FitClipConfig: {"clip": ""},
    FitBlipConfig: {"blip": ""},
    TrainUnetConfig: {
        "base": "pipeline",
        "region_clip": "region_encoder",
        "scene_blip": "scene_encoder",
    },
    EditConfig: {"unet": "pipeline"},
    # a metric whose network is missing is shown as not available; the others go on
    EvalConfig: {},
}

# GFLOP a picture at the paper's sizes, 2 per multiply-add, counted with torch's FlopCounterMode:
# CLIP ViT-B/16 forward 35, + input gradient 72, + all gradients 105; BLIP ViT-B/16 at 384 px 111,
# 234, 333; SD1.5's UNet forward and backward at 256 px 537, forward at 512 px 803; its VAE's
# decoder with gradient at 256 px 1,247. The fusion's own arithmetic is 11.
GFLOP_FUSION_STEP = 2 * 35 + 33
GFLOP_JOINT_STEP = 2 * 105 + 33
GFLOP_BLIP_STEP = 333
GFLOP_UNET_STEP = 537
GFLOP_DECODE = 1247
GFLOP_REGION_LOSS = 2 * 72
GFLOP_GLOBAL_LOSS = 234
GFLOP_EDIT_STEP = 3 * 803


def check(config: CommandConfig, runs_dir: Path) -> None:
    """Make sure that DATA and every model the command names are there, or can be fetched.

    Raises:
        RicError: one is not; says which, and how to get it.
    """
    _open_data(config)
    for name, artifact in _models(config):
        _locate(name, artifact, runs_dir, config.weights, type(config))
    descriptions = getattr(config, "descriptions", None)
    if descriptions is not None and find_run(descriptions, runs_dir) is None:
        raise RicError(f"No run at {descriptions!r}.", "See which there are: ric runs ls")
    if isinstance(config, TrainUnetConfig):
        for wanted, judge, flag, without in (
            (config.region_loss, config.region_clip, "--region-clip", "--no-region-loss"),
            (config.global_loss, config.scene_blip, "--scene-blip", "--no-global-loss"),
        ):
            if wanted and judge is None:
                command = "fit-clip" if "clip" in flag else "fit-blip"
                raise RicError(
                    f"{'The region' if 'clip' in flag else 'The scene'} loss needs a fitted judge:"
                    f" {flag} RUN.",
                    f"Fit one with ric {command} DATA, or train without that loss: {without}",
                )


def plan(config: CommandConfig, runs_dir: Path) -> dict[str, Any]:
    """Describe what a command would do: settings, samples, models, steps, memory and time.

    Time is arithmetic at this machine's own measured matrix rate, for the paper's models; other
    models' is not estimated. It is a floor: no machine keeps its matrix rate up throughout.

    Raises:
        RicError: DATA is not there.
    """
    samples = _count(config)
    models = {name: _model_in_words(name, kind, runs_dir, config) for name, kind in _models(config)}
    cost: dict[str, Any] = {}
    steps = _steps(config, samples)
    if steps is not None:
        cost["steps"] = steps
    cost |= _memory(config, runs_dir)
    gflop = _gflop(config, samples, steps)
    if gflop is None:
        cost["time"] = "not estimated (other models than the paper's)"
    else:
        from ric.device import matmul_rate, pick_device, pick_dtype

        device = pick_device(config.device)
        rate = matmul_rate(pick_dtype(config.dtype, device), device=device)
        cost["arithmetic"] = f"{gflop / 1e3:,.0f} TFLOP"
        cost["time"] = (
            f"at least {_clock(gflop * 1e9 / rate)} at this machine's measured "
            f"{rate / 1e12:.2f} TFLOP/s"
        )
    return {
        "settings": as_dict(config),
        "data": {"samples": samples if samples is not None else "unknown", "split": config.split},
        "models": models or {"none": "no model is loaded"},
        "cost": cost,
    }


def _models(config: CommandConfig) -> Iterator[tuple[str, str]]:
    for setting, artifact in MODELS[type(config)].items():
        name = getattr(config, setting)
        used = {
            "model": getattr(config, "describer", "") == "chat",
            "region_clip": getattr(config, "region_loss", False),
            "scene_blip": getattr(config, "global_loss", False),
        }.get(setting, True)
        if name is not None and name != "tiny" and used:
            yield name, artifact


def _locate(
    name: str, artifact: str, runs_dir: Path, weights: str | None, kind: type[CommandConfig]
) -> Path:
    found = find_artifact(name, artifact, runs_dir) if artifact else None
    # TrainUnetConfig is of train-unet
    words = re.findall("[A-Z][a-z]+", kind.__name__.removesuffix("Config"))
    needs = f"ric {'-'.join(words).lower()}"
    return found or resolve_weights(name, weights_dir=weights, needs=needs)


def _open_data(config: CommandConfig) -> None:
    from ric.data.sample import load_samples

    if isinstance(config, EditConfig):
        from ric.recipes.photos import find_photos

        if find_photos(config):
            return
    load_samples(config.data, split=config.split, columns=config.columns)


def _count(config: CommandConfig) -> int | None:
    """Count samples without decoding a picture: a split of unknown rows is its usual share."""
    from ric.data.sample import load_samples

    if isinstance(config, EditConfig):
        from ric.recipes.photos import find_photos

        if photos := find_photos(config):
            return len(photos)
    rows = load_samples(config.data, columns=config.columns, on_failure=lambda error: None)
    count = rows.row_count
    if count is None:
        return None
    share = {"train": 0.85, "val": 0.05, "test": 0.10, "all": 1.0}[config.split]
    count = round(count * share)
    return count if config.limit is None else min(count, config.limit)


def _model_in_words(name: str, artifact: str, runs_dir: Path, config: CommandConfig) -> str:
    try:
        if artifact and find_artifact(name, artifact, runs_dir):
            return f"{artifact} of a run"
    except RicError as error:
        return f"missing: {error.message}"
    if Path(name).exists():
        problems = check_weights(Path(name))
        return f"a local folder{', ' + problems[0] if problems else ''}"
    weight = find_weight(name)
    if weight is None:
        return "not in the table: ric weights ls"
    where = is_present(weight, config.weights)
    return f"{weight.size}, {f'in {where}' if where else 'missing (ric weights get)'}"


def _steps(config: CommandConfig, samples: int | None) -> int | None:
    if isinstance(config, TrainUnetConfig):
        return config.steps
    if samples is None:
        return None
    if isinstance(config, FitClipConfig):
        epochs = config.fusion_epochs + config.joint_epochs
        return epochs * -(-samples // config.batch_size)
    if isinstance(config, FitBlipConfig):
        return config.epochs * -(-samples // config.batch_size)
    return None


def _memory(config: CommandConfig, runs_dir: Path) -> dict[str, str]:
    """Give what is certain before a step is taken: the trained weights and their copies."""
    trained = {"clip": "", "blip": "", "base": "pipeline"}
    for name, artifact in trained.items():
        model = getattr(config, name, None)
        if model is None or isinstance(config, EvalConfig):
            continue
        size = _weight_bytes(model, artifact, runs_dir, config.weights)
        if size is None:
            return {"memory": "not known before the model is here"}
        copies = 5 if getattr(config, "ema", False) else 4
        words = "weights, gradients, two moments" + (", average" if copies == 5 else "")
        return {"memory": f"{size_in_words(copies * size)} ({words}, float32), and activations"}
    return {}


def _weight_bytes(model: str, artifact: str, runs_dir: Path, weights: str | None) -> int | None:
    """Sum the trained network's safetensors: the UNet of a pipeline, else all there is."""
    if model == "tiny":
        return None
    try:
        folder = find_artifact(model, artifact, runs_dir) if artifact else None
        if folder is None:
            weight = find_weight(model)
            folder = is_present(weight, weights) if weight else Path(model)
    except RicError:
        return None
    if folder is None or not folder.is_dir():
        return None
    files = list((folder / "unet").glob("*.safetensors")) or list(folder.glob("*.safetensors"))
    return sum(file.stat().st_size for file in files) or None


def _gflop(config: CommandConfig, samples: int | None, steps: int | None) -> float | None:
    paper = {
        FitClipConfig: "openai/clip-vit-base-patch16",
        FitBlipConfig: "Salesforce/blip-itm-base-coco",
    }
    if config.preset == "tiny" or samples is None:
        return None
    if isinstance(config, FitClipConfig) and config.clip == paper[FitClipConfig]:
        return samples * (
            config.fusion_epochs * GFLOP_FUSION_STEP + config.joint_epochs * GFLOP_JOINT_STEP
        )
    if isinstance(config, FitBlipConfig) and config.blip == paper[FitBlipConfig]:
        return samples * config.epochs * GFLOP_BLIP_STEP
    area = (getattr(config, "image_size", 256) / 256) ** 2
    if isinstance(config, TrainUnetConfig) and steps is not None:
        judged = config.region_loss or config.global_loss
        one = GFLOP_UNET_STEP * area + judged * GFLOP_DECODE * area
        one += config.region_loss * GFLOP_REGION_LOSS + config.global_loss * GFLOP_GLOBAL_LOSS
        return steps * config.batch_size * one
    if isinstance(config, EditConfig):
        return samples * config.steps * GFLOP_EDIT_STEP * area / 4
    return None


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
