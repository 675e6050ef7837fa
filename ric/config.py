"""One frozen dataclass per command. Its defaults are `--preset paper`: the paper's own numbers.

Every number the paper states stands here once, with where it says so (arXiv 2510.16772); what the
paper leaves open is marked "choice" with the number METHOD and the README's table give it.
`TINY` holds what `--preset tiny` sets otherwise. This file imports nothing heavy: flags read
their defaults from it while `ric --help` must stay fast.
"""

from __future__ import annotations

import dataclasses
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from ric.errors import RicError

Preset = Literal["paper", "tiny"]
SplitName = Literal["train", "val", "test", "all"]
Dtype = Literal["bf16", "fp32"]
Fit = Literal["squash", "crop"]
RegionText = Literal["region_text", "instruction"]
AlignWeight = Literal["none", "snr"]
Attention = Literal["sdpa", "xformers"]
DescriberName = Literal["dataset", "chat"]
EditorName = Literal["ip2p"]
Reference = Literal["target", "source"]
FidKind = Literal["clean", "torch-fidelity", "pytorch-fid"]
LpipsNet = Literal["alex", "vgg"]
Sees = Literal["both", "crop", "image"]
Keep = Literal["last", "best"]
Match = Literal["id", "file", "stem"]
OutputFit = Literal["squash", "crop", "pad"]
Layout = Literal["table-1", "table-2", "table-3"]
GroupBy = Literal["editing-type", "region-size"]
EvalText = Literal["region_text", "instruction", "scene_text", "target_text"]
EvalProtocol = Literal["none", "magicbrush", "pie-bench", "paper"]


# each number beside its source, in one column
# fmt: off
@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """What every command that reads DATA understands."""

    data: str = ""
    preset: Preset = "paper"
    split: SplitName = "all"
    columns: str | None = None          # "source=input_image,instruction=edit_prompt"
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: Dtype = "bf16"               # the paper is silent; weights stay float32
    weights: str | None = None          # a folder looked in before the hub's cache
    max_pixels: int = 64_000_000        # a picture over this is a failure row, not a crash
    ignore_signature: bool = False      # choice 14: keep DALL-E's corner strip out


@dataclass(frozen=True, kw_only=True)
class DescribeConfig(CommandConfig):
    """`ric describe`: a scene paragraph for every picture (Sec. 3.2.3, Table 4)."""

    describer: DescriberName = "chat"
    model: str = "deepseek-ai/deepseek-vl2-tiny"    # Implementation details: DeepSeek-VL2-Tiny
    max_new_tokens: int = 520                       # Table 4: "maximum 520 tokens"


@dataclass(frozen=True, kw_only=True)
class FitClipConfig(CommandConfig):
    """`ric fit-clip`: the region judge (Sec. 3.2.1, 3.2.2, Eqs. 11 to 16)."""

    split: SplitName = "train"
    clip: str = "openai/clip-vit-base-patch16"      # Implementation details: CLIP ViT-B/16
    image_size: int = 512                           # "resized to a resolution of 512x512"
    fit: Fit = "squash"                             # choice 2: "resized to"
    batch_size: int = 64                            # phase 1: "a batch size of 64"
    micro_batch: int | None = None                  # pairs held at once; None: all of a batch
    fusion_epochs: int = 50                         # phase 1: backbone frozen, "for 50 epochs"
    fusion_lr: float = 1e-4                         # phase 1: AdamW, "1x10^-4"
    joint_epochs: int = 20                          # phase 2: "20 additional epochs"
    joint_lr: float = 1e-5                          # phase 2: "1x10^-5"
    temperature: float = 0.07                       # choice 4: learnable, as CLIP starts it
    num_heads: int = 8                              # choice 1
    gated_fusion: bool = True                       # False: Table 3's "without gated fusion"
    sees: Sees = "both"                             # what the fusion sees; the others are controls
    controls: bool = True                           # also fit both controls' fusions in phase 1
    region_text: RegionText = "region_text"         # choice 3: HumanEdit's OUTPUT_DESCRIPTION
    weight_decay: float = 1e-2                      # choice 8
    measure_every: int = 5                          # epochs between two looks at val
    keep: Keep = "last"                             # best: by val
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    track: str | None = None                        # a tracker of accelerate's, such as tensorboard


@dataclass(frozen=True, kw_only=True)
class FitBlipConfig(CommandConfig):
    """`ric fit-blip`: the scene judge (Sec. 3.2.1, Eq. 11)."""

    split: SplitName = "train"
    blip: str = "Salesforce/blip-itm-base-coco"     # Implementation details: blip-itm-base-coco
    descriptions: str | None = None                 # a describe run; None: the data's scene_text
    image_size: int = 512                           # as the region judge
    fit: Fit = "squash"
    batch_size: int = 32                            # "a batch size of 32"
    micro_batch: int | None = None                  # pairs held at once; None: all of a batch
    epochs: int = 20                                # "train for 20 epochs"
    lr: float = 1e-5                                # AdamW, "1x10^-5"
    source_negatives: bool = False                  # sources join Eq. 11's second sum; not in paper
    max_text_tokens: int = 512                      # Sec. 3.2.1: "(512 tokens)"
    temperature: float = 0.07                       # choice 4
    weight_decay: float = 1e-2                      # choice 8
    measure_every: int = 5                          # epochs between two looks at val
    keep: Keep = "last"                             # best: by val
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 10
    track: str | None = None                        # a tracker of accelerate's, such as tensorboard


@dataclass(frozen=True, kw_only=True)
class TrainUnetConfig(CommandConfig):
    """`ric train-unet`: region and scene losses beside the noise loss (Sec. 3.2, Eqs. 5 to 10)."""

    split: SplitName = "train"
    base: str = "timbrooks/instruct-pix2pix"        # "initialized from a prior checkpoint"
    descriptions: str | None = None                 # a describe run; None: the data's scene_text
    region_clip: str | None = None                  # a fit-clip run
    scene_blip: str | None = None                   # a fit-blip run
    steps: int = 9000                               # "over 9000 steps"
    lr: float = 1e-4                                # "a learning rate of 1x10^-4"
    image_size: int = 256                           # "a resolution of 256x256"
    batch_size: int = 8                             # "a batch size of 8"
    accumulate: int = 1
    lora_rank: int | None = None                    # train low-rank updates of this rank alone
    region_loss: bool = True                        # False: Table 3's "without region desc loss"
    global_loss: bool = True                        # False: Table 3's "without full desc loss"
    gated_fusion: bool = True                       # False: Table 3's "without gated fusion"
    region_weight: float = 1.0                      # Eq. 10
    global_weight: float = 1.0                      # Eq. 10
    noise_weight: float = 1.0                       # Eq. 10
    region_text: RegionText = "region_text"         # choice 3
    allow_missing_text: bool = False                # a sample without one: noise loss alone
    fit: Fit = "squash"                             # choice 2
    flip: bool = False                              # choice 11
    loss_decoder: str = "vae"                       # choice 2; or an AutoencoderTiny, cheaper
    cache: bool = True                              # False: encode pictures and texts every step
    conditioning_dropout: float = 0.05              # choice 6: 5 % text, 5 % image, 5 % both
    align_below: int | None = None                  # choice 7: every t, as Eq. 10 writes it
    align_weight: AlignWeight = "none"              # choice 7
    ema: bool = True                                # choice 8
    ema_decay: float = 0.9999                       # choice 8
    ema_on_cpu: bool = False                        # less GPU memory: the average in the host's
    adam_8bit: bool = False                         # less memory: moments in 8 bits
    adam_beta1: float = 0.9                         # choice 8
    adam_beta2: float = 0.999                       # choice 8
    weight_decay: float = 1e-2                      # choice 8
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False            # less memory: blocks are computed twice
    memory: float | None = None                     # GB of the GPU: picks what makes a step fit
    show_every: int = 1000                          # steps between two looks at val edits; 0: never
    compile: bool = False                           # torch.compile of UNet and loss decoder
    attention: Attention = "sdpa"                   # the paper's xFormers is 8 % slower than SDPA
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 10
    track: str | None = None                        # a tracker of accelerate's, such as tensorboard
    push_to_hub: str | None = None                  # the repository that gets the result


@dataclass(frozen=True, kw_only=True)
class EditConfig(CommandConfig):
    """`ric edit`: new pictures from an instruction; choice 13 where the paper is silent."""

    split: SplitName = "test"
    instruction: str | None = None                  # for a photo or a folder of photos
    editor: EditorName = "ip2p"
    unet: str = "timbrooks/instruct-pix2pix"        # or a train-unet run
    steps: int = 100                                # choice 13
    guidance: float = 7.5                           # choice 13
    image_guidance: float = 1.5                     # choice 13
    image_size: int = 512                           # choice 13
    batch_size: int = 4
    allow_overlap: bool = False


@dataclass(frozen=True, kw_only=True)
class EvalConfig(CommandConfig):
    """`ric eval`: the six metrics of Sec. 4, defined as METRICS says."""

    split: SplitName = "test"
    edits: tuple[str, ...] = ()                     # "Label=RUN or DIR", …
    source: str | None = None                       # a folder of photos, in place of DATA
    target: str | None = None                       # with source: a folder of their ground truths
    mask: str | None = None                         # with source: a folder of their masks
    texts: str | None = None                        # with source: a CSV of their texts
    match: Match = "id"                             # by what an output's file is named
    fit: OutputFit | None = None                    # for outputs of another shape; None: a failure
    partial: bool = False                           # under 95 % of the samples will do
    group_by: GroupBy | None = None                 # also a table for each group of samples
    fid_set: str | None = None                      # a folder of pictures FID is to be taken to
    layout: Layout = "table-1"                      # the paper's: 2 and 3 have a column an editor
    protocol: EvalProtocol = "none"                 # whose definitions; see PROTOCOLS
    reference: Reference = "target"
    text: EvalText = "region_text"
    fid: FidKind = "clean"
    lpips_net: LpipsNet = "alex"
    clip: str = "openai/clip-vit-base-patch32"
    dino: str = "facebook/dino-vits16"
    batch_size: int = 16
    allow_overlap: bool = False


# --- the embedded family: sizes of ours, no number of the paper's -------------------------------
@dataclass(frozen=True, kw_only=True)
class TinyConfig(CommandConfig):
    """What every `ric tiny` training understands; made for drawn scenes of 64 pixels."""

    preset: Preset = "tiny"
    split: SplitName = "train"
    base: str = "tiny"                  # what it starts from: a folder, a run, the shipped one
    image_size: int = 64
    steps: int = 4000
    batch_size: int = 32
    lr: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    ema_decay: float = 0.999
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    measure_every: int = 500
    log_every: int = 25


@dataclass(frozen=True, kw_only=True)
class TinyVaeConfig(TinyConfig):
    """`ric tiny vae`: the autoencoder of both pipelines."""

    batch_size: int = 16
    kl_weight: float = 1e-4             # of the divergence per latent number


@dataclass(frozen=True, kw_only=True)
class TinyClipConfig(TinyConfig):
    """`ric tiny clip`: a CLIP of whole pictures and captions."""

    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class TinyCaptionerConfig(TinyConfig):
    """`ric tiny captioner`: a BLIP that writes scene paragraphs."""

    vision: str | None = None           # a fit-blip run whose eyes it starts with
    colour_noise: float = 0.0           # share of the colour words it reads that are others


@dataclass(frozen=True, kw_only=True)
class TinyClassifierConfig(TinyConfig):
    """`ric tiny classifier`: a ResNet that reads scenes and the things in them."""

    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class TinyPriorConfig(TinyConfig):
    """`ric tiny prior`: a UNet and its text encoder, before `ric train-unet`."""

    vae: str | None = None              # a tiny-vae run; None: the base's own
    conditioning_dropout: float = 0.05  # choice 6
    text_to_image: bool = False         # forget the source channels of an editor's UNet
    max_noise_weight: float = 1.0       # the loss counts min(1 / alpha_bar_t, this) times
    edit_weight: float = 0.0            # added to a place's 1 in the noise loss where pixels change


@dataclass(frozen=True, kw_only=True)
class TinyScoreConfig(CommandConfig):
    """`ric tiny score`: what each member is worth on scenes it has not seen."""

    preset: Preset = "tiny"
    split: SplitName = "test"
    image_size: int = 64


# fmt: on

# --- presets -------------------------------------------------------------------------------------

# What `--preset tiny` sets otherwise: the embedded family and sizes that two CPU cores finish.
TINY: dict[type[CommandConfig], dict[str, Any]] = {
    CommandConfig: {},
    DescribeConfig: {"describer": "dataset", "model": "tiny", "max_new_tokens": 64},
    FitClipConfig: {
        "clip": "tiny", "image_size": 64, "batch_size": 16, "fusion_epochs": 4, "joint_epochs": 2,
        "fusion_lr": 1e-3, "joint_lr": 1e-4, "log_every": 1, "checkpoint_every": 20,
        "measure_every": 2,
    },
    FitBlipConfig: {
        "blip": "tiny", "image_size": 64, "batch_size": 16, "epochs": 4, "lr": 1e-4,
        "log_every": 1, "checkpoint_every": 20, "measure_every": 2,
    },
    TrainUnetConfig: {
        "base": "tiny", "region_clip": "tiny", "scene_blip": "tiny", "image_size": 64, "steps": 20,
        "log_every": 1, "checkpoint_every": 10, "show_every": 0,
    },
    EditConfig: {
        "unet": "tiny", "steps": 20, "guidance": 2.0, "image_guidance": 1.1, "image_size": 64,
        "batch_size": 20,
    },
    EvalConfig: {"clip": "tiny", "dino": "tiny"},
    TinyVaeConfig: {}, TinyClipConfig: {}, TinyCaptionerConfig: {}, TinyClassifierConfig: {},
    TinyPriorConfig: {}, TinyScoreConfig: {},
}  # fmt: skip

ConfigT = TypeVar("ConfigT", bound=CommandConfig)


# What a protocol of `ric eval` fixes; with the tiny preset its own networks stay.
PROTOCOLS: dict[EvalProtocol, dict[str, str]] = {
    "magicbrush": {                     # its evaluation/image_eval.py
        "reference": "target",
        "fit": "squash",
        "text": "target_text",
        "clip": "openai/clip-vit-base-patch32",
        "dino": "facebook/dino-vits16",
    },
    "pie-bench": {                      # PnPInversion's evaluation/matrics_calculator.py
        "reference": "source",
        "fit": "squash",                # a strip of pictures ends in the edit
        "text": "target_text",
        "clip": "openai/clip-vit-large-patch14",
        "dino": "facebook/dino-vitb8",
    },
    "paper": {                          # Sec. 4, and METRICS where it is silent
        "reference": "source",
        "text": "region_text",
        "fid": "clean",
        "lpips_net": "alex",
        "clip": "openai/clip-vit-base-patch32",
        "dino": "facebook/dino-vits16",
    },
}  # fmt: skip


# what says nothing in a protocol, which has no such score or no choice of its network
NOT_IN_PROTOCOL: dict[EvalProtocol, tuple[str, ...]] = {
    "magicbrush": ("fid", "fid_set", "lpips_net"),
    "pie-bench": ("fid", "fid_set", "lpips_net"),
}


def resolve_config(
    kind: type[ConfigT],
    flags: dict[str, Any],
    *,
    from_file: dict[str, Any] | None = None,
) -> ConfigT:
    """Lay a preset, a config file and flags over the paper's numbers; the later one wins.

    Args:
        kind: The command's dataclass.
        flags: Values the user typed; keys are field names.
        from_file: Values of `--config`, keys as in the dataclass.

    Raises:
        RicError: `from_file` holds a key the command does not have, or a value is of a wrong
            type or out of its range.
    """
    from_file = dict(from_file or {})
    fields = {field.name for field in dataclasses.fields(kind)}
    for key in from_file:
        if key not in fields:
            raise RicError(
                f"The config file sets {key!r}, which {kind.__name__} does not have.",
                f"It has: {', '.join(sorted(fields))}.",
            )
    preset = flags.get("preset", from_file.get("preset", kind.preset))
    _typed(kind, "preset", preset)
    values = {**(TINY[kind] if preset == "tiny" else {}), **from_file, **flags}
    if kind is EvalConfig:
        values |= _of_loose_pictures(values, flags)
    if values.get("protocol", "none") != "none":
        _typed(kind, "protocol", values["protocol"])
        values |= _fixed_by_protocol(values, flags)
    return kind(**{key: _typed(kind, key, value) for key, value in values.items()})


def _of_loose_pictures(values: dict[str, Any], flags: dict[str, Any]) -> dict[str, str | None]:
    """Give what follows from `--source`: its pictures are the data, and they have no splits.

    What was typed goes before a config file: of its data, or of its source.

    Raises:
        RicError: both are typed, or what goes with a source and no source.
    """
    data, typed = flags.get("data"), flags.get("source")
    if data and typed and data != typed:
        raise RicError("--data and --source are both given.", "Score on one of them.")
    source = typed if data else values.get("source")
    if source:
        if flags.get("split", "all") != "all" or flags.get("columns"):
            flag = "--columns" if flags.get("columns") else "--split"
            raise RicError(
                f"{flag} does not go with --source: loose pictures have no splits and no columns.",
                f"Leave {flag} out, or describe the pictures in a folder with metadata.jsonl.",
            )
        return {"data": source, "split": "all"}
    also = [name for name in ("target", "mask", "texts") if flags.get(name)]
    if also:
        raise RicError(
            f"--{also[0]} goes with --source, the folder of the photos before the edit.",
            "Or describe the pictures in a folder with metadata.jsonl: --data DATA",
        )
    return dict.fromkeys(("source", "target", "mask", "texts"))


def _fixed_by_protocol(values: dict[str, Any], flags: dict[str, Any]) -> dict[str, str]:
    """Return what the protocol sets, also over what a config file says.

    Raises:
        RicError: the user asked for something else.
    """
    own_networks = ("clip", "dino") if values.get("preset") == "tiny" else ()
    fixed = {
        key: value
        for key, value in PROTOCOLS[values["protocol"]].items()
        if key not in own_networks
    }
    for key in NOT_IN_PROTOCOL.get(values["protocol"], ()):
        if key in flags:
            flag = "--" + key.replace("_", "-")
            raise RicError(
                f"--protocol {values['protocol']} has no use for {flag}.", f"Leave {flag} out."
            )
    for key, value in fixed.items():
        if flags.get(key, value) != value:
            flag = "--" + key.replace("_", "-")
            raise RicError(
                f"--protocol {values['protocol']} fixes {flag} as {value!r}, not {flags[key]!r}.",
                f"Leave {flag} out, or --protocol.",
            )
    return fixed


def _typed(kind: type[CommandConfig], key: str, value: Any) -> Any:
    """Check `value` against the field's annotation; numbers in words and lists are converted.

    Raises:
        RicError: it is of another type, no choice of the field, or out of its range.
    """
    hint = get_type_hints(kind)[key]
    if get_origin(hint) in (UnionType, Union):  # the latter: of a Literal and None
        hint = get_args(hint)[0]
        # an empty text, as of `ric edit DATA ""`, is none given
        if value is None or (hint is str and isinstance(value, str) and not value.strip()):
            return None
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise RicError(f"{key} is {value!r}.", f"Choose one of: {choices}.")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise RicError(f"{key} is {value!r}, which is no list of texts.")
        return tuple(value)
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML reads 1e-4 as a text
        with suppress(ValueError, OverflowError):
            value = float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise RicError(f"{key} is {value!r}, which is no {IN_WORDS[hint]}.")
    bounds = OF_ONE_KIND.get(kind, {}).get(key) or BOUNDS.get(key, Bounds())
    if hint in (int, float) and not bounds.hold(value):
        raise RicError(f"{key} is {value}; it is {bounds.in_words(value)}.")
    return value


class Bounds(NamedTuple):
    """Which numbers a setting may have; all are finite."""

    least: float = -math.inf
    most: float = math.inf
    but_least: bool = False  # the least itself is one too little
    but_most: bool = False  # the most itself is one too much

    def hold(self, value: float) -> bool:
        """Tell whether `value` is within."""
        above = value > self.least if self.but_least else value >= self.least
        below = value < self.most if self.but_most else value <= self.most
        return _is_finite(value) and above and below

    def in_words(self, value: float) -> str:
        """Say what `value` should have been: `at least 0 and less than 1`, `finite`."""
        words = [] if _is_finite(value) else ["finite"]
        if self.least > -math.inf:
            words.append(f"{'more than' if self.but_least else 'at least'} {self.least:.4g}")
        if self.most < math.inf:
            words.append(f"{'less than' if self.but_most else 'at most'} {self.most:.4g}")
        return " and ".join(words)


def _is_finite(value: float) -> bool:
    # a whole number may be larger than any float
    return isinstance(value, int) or math.isfinite(value)


IN_WORDS = {int: "whole number", float: "number", bool: "yes or no (true, false)", str: "text"}
POSITIVE, NOT_NEGATIVE = Bounds(0, but_least=True), Bounds(0)
# What flags and config files must keep to; a number that is not here is only finite.
BOUNDS: dict[str, Bounds] = {
    "accumulate": Bounds(1), "adam_beta1": Bounds(0, 1, but_most=True),
    "adam_beta2": Bounds(0, 1, but_most=True), "align_below": NOT_NEGATIVE, "batch_size": Bounds(1),
    "checkpoint_every": Bounds(1), "colour_noise": Bounds(0, 1),
    "conditioning_dropout": Bounds(0, 1 / 3),
    "edit_weight": NOT_NEGATIVE, "ema_decay": Bounds(0, 1), "epochs": Bounds(1),
    "fusion_epochs": NOT_NEGATIVE,
    "fusion_lr": POSITIVE, "global_weight": NOT_NEGATIVE, "image_size": Bounds(8),
    "joint_epochs": NOT_NEGATIVE, "joint_lr": POSITIVE, "keep_checkpoints": Bounds(1),
    "limit": Bounds(1), "log_every": Bounds(1), "lora_rank": Bounds(1), "lr": POSITIVE,
    "max_grad_norm": POSITIVE, "max_noise_weight": POSITIVE,
    "max_new_tokens": Bounds(1), "max_pixels": Bounds(1), "max_text_tokens": Bounds(3),
    "memory": POSITIVE,
    "noise_weight": NOT_NEGATIVE, "num_heads": Bounds(1), "region_weight": NOT_NEGATIVE,
    "seed": NOT_NEGATIVE, "show_every": NOT_NEGATIVE, "steps": Bounds(1), "temperature": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
}  # fmt: skip
# a contrastive batch needs a second sample to tell the first one from
OF_ONE_KIND: dict[type[CommandConfig], dict[str, Bounds]] = {
    FitClipConfig: {"batch_size": Bounds(2)},
    FitBlipConfig: {"batch_size": Bounds(2)},
}


def as_dict(config: CommandConfig) -> dict[str, Any]:
    """Give the config as JSON-ready values, in the order of the dataclass."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config).items()
    }


def load_config_file(path: Path) -> dict[str, Any]:
    """Read `--config`: a YAML file of fields, or a run.json (its `config` is taken).

    Raises:
        RicError: the file is missing, cannot be parsed, or holds no mapping.
    """
    import yaml

    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RicError(f"Cannot read the config file {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RicError(f"The config file {path} is neither YAML nor JSON: it is no text.") from None
    except yaml.YAMLError as error:
        line = str(error).splitlines()[0]
        raise RicError(f"The config file {path} is neither YAML nor JSON: {line}.") from None
    if isinstance(loaded, dict) and "schema" in loaded and isinstance(loaded.get("config"), dict):
        loaded = loaded["config"]
    if not isinstance(loaded, dict):
        raise RicError(f"The config file {path} holds no mapping of fields to values.")
    return loaded
