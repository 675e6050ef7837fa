"""What can be known before any network is loaded: are DATA and models there, and what will it cost?

Nothing here imports torch until the cost is asked for, so a missing model is named within a second
and not after the ten that the libraries take to load.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    as_dict,
)
from ric.errors import RicError
from ric.models.locate import eval_networks, find_model
from ric.runs.record import find_artifact
from ric.weights import (
    check_weights,
    find_weight,
    is_present,
    require_network,
    resolve_weights,
    size_in_words,
)
from ric.weights.find import pickled_copy
from ric.weights.resolve import unlisted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
SHARES = {"train": 0.85, "val": 0.05, "test": 0.10}  # choice 5

# what phase 1 keeps of a sample: ViT-B/16's patches of crop and image, and their width
PAPER_CLIP = FitClipConfig.clip
TOKENS_OF_CLIP = 2 * 14 * 14
WIDTH_OF_CLIP = 512
# of an instruction for SD1.5's UNet, and of the judges' two texts
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
GFLOP_EDIT_STEP = 3 * 803


def check(config: CommandConfig, runs_dir: Path) -> None:
    """Make sure that all that the command names is there, fetching models that are not.

    Raises:
        RicError: something is not; says what, and how to get it.
    """
    for problem in _problems(config, runs_dir, fetch=True):
        raise problem


def find_problems(config: CommandConfig, runs_dir: Path) -> list[RicError]:
    """List all that `check` would complain about, without fetching anything."""
    return list(_problems(config, runs_dir, fetch=False))


def _problems(config: CommandConfig, runs_dir: Path, *, fetch: bool) -> Iterator[RicError]:
    for look in _looks(config, runs_dir, fetch):
        try:
            look()
        except RicError as error:
            yield error


def _looks(config: CommandConfig, runs_dir: Path, fetch: bool) -> Iterator[Callable[[], object]]:
    """List what is looked at; each raises RicError when it is not as it must be."""
    yield partial(_open_data, config)
    if isinstance(config, EvalConfig):
        # a metric whose network is missing is shown as not available; the others go on
        from ric.scoring.outputs import find_outputs, pictures_in

        if config.fid_set is not None:
            yield partial(pictures_in, Path(config.fid_set))
        for text in config.edits:
            yield partial(find_outputs, text, runs_dir, match=config.match)
        return
    for network in _networks(config):
        if network.name != "tiny":
            yield partial(_locate, network, config, runs_dir, fetch)
    if track := getattr(config, "track", None):
        from ric.training.tracking import find_tracker

        yield partial(find_tracker, track)
    yield partial(_find_descriptions, getattr(config, "descriptions", None), runs_dir)
    if isinstance(config, TrainUnetConfig):
        from ric.extras import require_extra
        from ric.training.judges import region_judge_of, scene_judge_of

        if config.lora_rank:
            yield partial(require_extra, "peft")
        if config.adam_8bit:
            yield partial(require_extra, "bitsandbytes")
        if config.push_to_hub:
            from ric.runs.push_to_hub import refuse_without_token

            yield partial(refuse_without_token, config.push_to_hub)
        yield partial(region_judge_of, config)
        yield partial(scene_judge_of, config)


def _find_descriptions(reference: str | None, runs_dir: Path) -> None:
    if reference is not None and not find_artifact(reference, "descriptions.jsonl", runs_dir):
        raise RicError(f"No run at {reference!r}.", "See which there are: ric runs ls")


def plan(config: CommandConfig, runs_dir: Path) -> dict[str, Any]:
    """Describe what a command would do: settings, samples, models, steps, memory and time.

    Time is arithmetic at this machine's own measured matrix rate, for the paper's models; other
    models' is not estimated. It is a floor: no machine keeps its matrix rate up throughout.
    What is not there is said to be missing or unknown; `find_problems` tells why.
    """
    samples, samples_in_words = count_samples(config)
    models = {
        network.name: _model_in_words(network, runs_dir, config) for network in _networks(config)
    }
    cost: dict[str, Any] = {}
    steps = _steps(config, samples)
    if steps is not None:
        cost["steps"] = steps
    cost |= _memory(config, runs_dir, samples)
    cost |= _caches(config, samples)
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
        "data": {"samples": samples_in_words, "split": config.split},
        "models": models or {"none": "no model is loaded"},
        "cost": cost,
    }


def _networks(config: CommandConfig) -> Iterator[Network]:
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


def _locate(network: Network, config: CommandConfig, runs_dir: Path, fetch: bool) -> None:
    """Find a network; one that is not here is fetched, or could be if `fetch` is off."""
    name, weights = network.name, config.weights
    if network.artifact and find_artifact(name, network.artifact, runs_dir):
        return
    # TrainUnetConfig is of train-unet
    words = re.findall("[A-Z][a-z]+", type(config).__name__.removesuffix("Config"))
    needs = f"ric {'-'.join(words).lower()}".replace("tiny-", "tiny ")
    there = Path(name).exists() or (weights is not None and not Path(weights).is_dir())
    if fetch or there:
        resolve_weights(name, weights_dir=weights, needs=needs)
        return
    weight = find_weight(name) or unlisted(name)
    if is_present(weight, weights) is None and pickled_copy(weight, weights) is None:
        size = f" ({weight.size})" if weight.size_bytes else ""
        hint = f"With a network: ric weights get {name}. Or give --weights a folder that holds it."
        require_network(f"{name}{size}, which {needs} needs,", hint, url=weight.url)


def _open_data(config: CommandConfig) -> None:
    from ric.data.sample import samples_of

    if isinstance(config, EditConfig):
        from ric.data.photos import find_photos

        if find_photos(config):
            return
    samples_of(config)


def count_samples(config: CommandConfig) -> tuple[int | None, int | str]:
    """Count samples without decoding a picture, as a number and in words.

    Which split a row is in is not read: a split's usual share of all rows stands for it.
    """
    from ric.data.sample import samples_of

    try:
        if isinstance(config, EditConfig):
            from ric.data.photos import find_photos

            if photos := find_photos(config):
                return len(photos), len(photos)
        rows = samples_of(config, split="all", on_failure=lambda error: None)
        count = rows.row_count
    except RicError:
        return None, "unknown"
    if count is None:
        return None, "unknown"
    limit = count if config.limit is None else config.limit
    if config.split == "all":
        return min(count, limit), min(count, limit)
    share = SHARES[config.split]
    expected = min(round(count * share), limit)
    at_most = "" if config.limit is None else f", at most {config.limit}"
    return expected, f"about {expected} ({share:.0%} of {count} rows{at_most})".replace("%", " %")


def _model_in_words(network: Network, runs_dir: Path, config: CommandConfig) -> str:
    name = network.name
    if name == "tiny":
        return "of the embedded family"
    try:
        if network.artifact and find_artifact(name, network.artifact, runs_dir):
            return f"{network.artifact} of a run"
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


def _caches(config: CommandConfig, samples: int | None) -> dict[str, str]:
    """Give the size of what is kept beside the run, in ric's cache: squares, tokens, encodings."""
    if samples is None or not isinstance(config, (FitClipConfig, FitBlipConfig, TrainUnetConfig)):
        return {}
    both = isinstance(config, TrainUnetConfig) or getattr(config, "source_negatives", False)
    pictures = 2 if both else 1
    number = 2 if config.dtype == "bf16" else 4  # bytes
    squares = samples * pictures * 3 * config.image_size**2
    words = f"{size_in_words(squares)} (8-bit squares)"
    if isinstance(config, FitClipConfig) and config.fusion_epochs and config.clip == PAPER_CLIP:
        tokens = TOKENS_OF_CLIP if config.gated_fusion else 1
        words += f", {size_in_words(samples * tokens * WIDTH_OF_CLIP * number)} (CLIP's tokens)"
    if isinstance(config, TrainUnetConfig) and config.cache:
        weight = find_weight(config.base)
        if weight and weight.kind == "hub":
            views = 2 if config.flip else 1
            latents = views * 3 * 4 * (config.image_size // 8) ** 2  # float32
            each = 4 * latents + number * NUMBERS_OF_TEXTS
            words += f", {size_in_words(samples * each)} (encodings)"
    return {"cache": words}


def _memory(config: CommandConfig, runs_dir: Path, samples: int | None) -> dict[str, str]:
    """Give what is certain before anything is computed: the weights, and copies of trained ones.

    With `--memory` all of a step is counted, and the plan is given.

    Raises:
        RicError: no plan fits into `--memory`.
    """
    if isinstance(config, TrainUnetConfig) and config.memory is not None:
        from ric.memory.plan import NotHereError, count_step, plan_memory

        try:
            step = count_step(config, runs_dir, samples=samples)
        except NotHereError as error:
            return {"memory": error.message}
        return {"memory": plan_memory(step, config, config.memory).in_words()}
    networks = list(_networks(config))
    if not networks:
        return {}
    trains = isinstance(config, (FitClipConfig, FitBlipConfig, TrainUnetConfig))
    if trains:
        # the judges are not trained
        networks = networks[:1]
    sizes = [_weight_bytes(network, runs_dir, config.weights, trains) for network in networks]
    size = sum(known for known in sizes if known)
    if not size:
        return {"memory": "not known before the model is here"}
    if not trains:
        return {"memory": f"at least {size_in_words(size)} (the weights), and activations"}
    if getattr(config, "lora_rank", None):
        return {"memory": f"{size_in_words(size)} (weights), updates, and activations: --memory GB"}
    copies = 5 if getattr(config, "ema", False) else 4
    words = "weights, gradients, two moments" + (", average" if copies == 5 else "")
    return {"memory": f"{size_in_words(copies * size)} ({words}, float32), and activations"}


def _weight_bytes(
    network: Network, runs_dir: Path, weights: str | None, trained: bool
) -> int | None:
    """Sum a network's files; of a pipeline that is trained, the UNet's.

    One that is not here has the size that the table tells, unless it is to be trained: a table
    tells nothing of the UNet alone.
    """
    weight = find_weight(network.name)
    try:
        place = find_model(
            network.name,
            runs_dir,
            tiny=network.member,
            artifact=network.artifact,
            weights_dir=weights,
        )
    except RicError:
        return None
    if place is None:
        return weight.size_bytes if weight and not trained else None
    if place.is_file():
        return place.stat().st_size
    unet = place / "unet"
    files = (unet if trained and unet.is_dir() else place).rglob("*.safetensors")
    size = sum(file.stat().st_size for file in files)
    # the embedded family lies there in half precision and is used as float32
    return (2 * size if network.name == "tiny" else size) or None


def _gflop(config: CommandConfig, samples: int | None, steps: int | None) -> float | None:
    paper = {
        FitClipConfig: PAPER_CLIP,
        FitBlipConfig: "Salesforce/blip-itm-base-coco",
    }
    if config.preset == "tiny" or samples is None:
        return None
    if isinstance(config, FitClipConfig) and config.clip == paper[FitClipConfig]:
        # phase 1 runs the backbone once, and as many fusions as there are controls beside it
        fusions = 3 if config.controls and config.gated_fusion and config.sees == "both" else 1
        backbone = GFLOP_TOKENS if config.fusion_epochs else 0
        again = GFLOP_TOKENS if config.micro_batch else 0
        return samples * (
            backbone
            + config.fusion_epochs * fusions * GFLOP_FUSION_STEP
            + config.joint_epochs * (GFLOP_JOINT_STEP + again)
        )
    if isinstance(config, FitBlipConfig) and config.blip == paper[FitBlipConfig]:
        again = GFLOP_BLIP if config.micro_batch else 0
        pictures = samples * (2 if config.source_negatives else 1)
        return pictures * config.epochs * (GFLOP_BLIP_STEP + again)
    area = (getattr(config, "image_size", 256) / 256) ** 2
    if isinstance(config, TrainUnetConfig) and steps is not None:
        judged = config.region_loss or config.global_loss
        decode = GFLOP_DECODE if config.loss_decoder == "vae" else GFLOP_SMALL_DECODE
        one = GFLOP_UNET_STEP * area + judged * decode * area
        one += config.region_loss * GFLOP_REGION_LOSS + config.global_loss * GFLOP_GLOBAL_LOSS
        return steps * config.batch_size * one
    if isinstance(config, EditConfig):
        return samples * config.steps * GFLOP_EDIT_STEP * area / 4
    return None


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
