"""One frozen dataclass per command. Its defaults are `--preset paper`: the paper's own numbers.

Every number the paper states stands here once, with its source (arXiv 2510.16772); what the paper
leaves open is marked "choice" with its number in docs/paper.md.
`TINY` holds the other values of `--preset tiny`. This file imports nothing heavy: flags read their
defaults from it, and `ric --help` must stay fast.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Preset = Literal["paper", "tiny"]
SplitName = Literal["train", "val", "test", "all"]
Dtype = Literal["auto", "bf16", "fp32"]
Fit = Literal["squash", "crop"]
RegionText = Literal["region_text", "instruction"]
AlignWeight = Literal["none", "alpha-bar", "one-minus-alpha-bar", "jacobian"]
RegionGradient = Literal["all", "box"]
NoiseReduction = Literal["mean", "sum"]
AlignTo = Literal["text", "target"]
Attention = Literal["sdpa", "xformers"]
Reference = Literal["target", "source"]
FidKind = Literal["clean", "torch-fidelity", "pytorch-fid"]
LpipsNet = Literal["alex", "vgg"]
Sees = Literal["both", "crop", "image"]
Keep = Literal["last", "best"]
Match = Literal["id", "file", "stem"]
OutputFit = Literal["squash", "crop", "pad"]
Decode = Literal["ric", "plain"]
Turns = Literal["all", "final"]
ZoneAttention = Literal["text", "null"]
Choosing = Literal["judges", "medoid"]
Layout = Literal["table-1", "table-2", "table-3"]
GroupBy = Literal["editing-type", "region-size"]
PhotoFormat = Literal["png", "jpg", "webp"]
EvalText = Literal["region_text", "instruction", "scene_text", "target_text"]
What = Literal["scene", "region", "target-caption", "source-caption", "explicit-instruction"]
AnyWhat = Literal[
    "scene", "region", "target-caption", "source-caption", "explicit-instruction", "all"
]
Bits = Literal["8bit", "4bit"]
EvalProtocol = Literal["none", "magicbrush", "pie-bench", "paper"]

# The column that each of `ric describe`'s texts fills: DATA's own, but for the last.
TEXT_OF: dict[What, str] = {
    "scene": "scene_text",
    "region": "region_text",
    "target-caption": "target_text",
    "source-caption": "source_text",
    "explicit-instruction": "explicit_instruction",
}
TEXT_COLUMNS = tuple(TEXT_OF.values())

FELZENSZWALB = "felzenszwalb"  # of scikit-image: a segmenter without weights
MAGICBRUSH = "vinesmsuic/magicbrush-jul7"  # its authors' "recent best" checkpoint, for diffusers


# each number beside its source, in one column
# fmt: off
@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """The settings of every command that reads DATA."""

    data: str = ""
    preset: Preset = "paper"
    split: SplitName = "all"
    columns: str | None = None          # "source=input_image,instruction=edit_prompt"
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: Dtype = "auto"               # the paper is silent; weights stay float32
    weights: str | None = None          # a folder searched before the hub's cache
    max_pixels: int = 64_000_000        # a picture over this is a failure row, not a crash
    ignore_signature: bool = False      # choice 14: leave out DALL-E's corner strip


@dataclass(frozen=True, kw_only=True)
class DescribeConfig(CommandConfig):
    """`ric describe`: a scene paragraph for every picture (Sec. 3.2.3, Table 4)."""

    describer: str = "chat"                          # or dataset, or your own (see ric.registry)
    model: str = "deepseek-ai/deepseek-vl2-tiny"    # Implementation details: DeepSeek-VL2-Tiny
    what: AnyWhat = "scene"                         # all: every one, each with its own prompt
    image: Reference = "target"                     # choice 3: which picture scene and region show
    prompt_file: str | None = None                  # in place of the prompt of --what
    max_new_tokens: int = 520                       # Table 4: "maximum 520 tokens"
    quality_gates: bool = True                      # ask again for what is no single paragraph
    attempts: int = 3                               # answers to a question, before it fails
    batch_size: int = 1                             # questions that a model of this machine answers
    load_in: Bits | None = None                     # weights by bitsandbytes (transformers)
    base_url: str | None = None                     # of the server (openai)
    concurrency: int = 8                            # requests in flight (openai)
    timeout: float = 120.0                          # seconds for one request (openai)
    sent_pixels: int = 1_048_576                    # a larger picture is scaled down (openai)
    shard: str | None = None                        # 2/5: the second fifth of the samples
    retry_failed: bool = False                      # of a finished run


@dataclass(frozen=True, kw_only=True)
class FitClipConfig(CommandConfig):
    """`ric fit-clip`: the region judge (Sec. 3.2.1, 3.2.2, Eqs. 11 to 16)."""

    split: SplitName = "train"
    clip: str = "openai/clip-vit-base-patch16"      # Implementation details: CLIP ViT-B/16
    descriptions: str | None = None                 # a run or a table of texts; None: the data's
    image_size: int = 512                           # "resized to a resolution of 512x512"
    fit: Fit = "squash"                             # choice 2: "resized to"
    batch_size: int = 64                            # phase 1: "a batch size of 64"
    micro_batch: int | None = None                  # pairs with a graph at once; None: a batch
    fusion_epochs: int = 50                         # phase 1: backbone frozen, "for 50 epochs"
    fusion_lr: float = 1e-4                         # phase 1: AdamW, "1x10^-4"
    joint_epochs: int = 20                          # phase 2: "20 additional epochs"
    joint_lr: float = 1e-5                          # phase 2: "1x10^-5"
    temperature: float = 0.07                       # choice 4: learnable, as CLIP starts it
    num_heads: int = 8                              # choice 1
    gated_fusion: bool = True                       # False: Table 3's "without gated fusion"
    sees: Sees = "both"                             # what the fusion gets; the others are controls
    controls: bool = True                           # also fit both controls' fusions in phase 1
    region_text: RegionText = "region_text"         # choice 3: HumanEdit's OUTPUT_DESCRIPTION
    blur_to_t: int | None = None                    # choice 19: also fit on x0_hat at t below it
    base: str = "timbrooks/instruct-pix2pix"        # with blur_to_t: predicts x0_hat
    pasted_negatives: bool = False                  # choice 21: the region pasted into its source
    attribute_negatives: bool = False               # choice 22: texts that name a wrong attribute
    flatten: float = 0.0                            # choice 18: length of an adversarial step
    weight_decay: float = 1e-2                      # choice 8
    measure_every: int = 5                          # epochs between measurements on val
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
    descriptions: str | None = None                 # a run or a table of texts; None: the data's
    image_size: int = 512                           # as the region judge
    fit: Fit = "squash"
    batch_size: int = 32                            # "a batch size of 32"
    micro_batch: int | None = None                  # pairs with a graph at once; None: a batch
    epochs: int = 20                                # "train for 20 epochs"
    lr: float = 1e-5                                # AdamW, "1x10^-5"
    source_negatives: bool = False                  # sources join Eq. 11's second sum; not in paper
    max_text_tokens: int = 512                      # Sec. 3.2.1: "(512 tokens)"
    temperature: float = 0.07                       # choice 4
    blur_to_t: int | None = None                    # choice 19: also fit on x0_hat at t below it
    base: str = "timbrooks/instruct-pix2pix"        # with blur_to_t: predicts x0_hat
    pasted_negatives: bool = False                  # choice 21: the region pasted into its source
    attribute_negatives: bool = False               # choice 22: texts that name a wrong attribute
    flatten: float = 0.0                            # choice 18: length of an adversarial step
    weight_decay: float = 1e-2                      # choice 8
    measure_every: int = 5                          # epochs between measurements on val
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
    descriptions: str | None = None                 # a run or a table of texts; None: the data's
    region_clip: str | None = None                  # a fit-clip run
    scene_blip: str | None = None                   # a fit-blip run
    steps: int = 9000                               # "over 9000 steps"
    lr: float = 1e-4                                # "a learning rate of 1x10^-4"
    image_size: int = 256                           # "a resolution of 256x256"
    batch_size: int = 8                             # "a batch size of 8"
    accumulate: int = 1
    lora_rank: int | None = None                    # train only low-rank updates of this rank
    region_loss: bool = True                        # False: Table 3's "without region desc loss"
    global_loss: bool = True                        # False: Table 3's "without full desc loss"
    gated_fusion: bool = True                       # False: Table 3's "without gated fusion"
    region_weight: float = 1.0                      # Eq. 10
    global_weight: float = 1.0                      # Eq. 10
    noise_weight: float = 1.0                       # Eq. 10
    losses: tuple[str, ...] = ()                    # NAME=WEIGHT, further terms (ric.registry)
    region_text: RegionText = "region_text"         # choice 3
    allow_missing_text: bool = False                # a sample without one: the other losses only
    fit: Fit = "squash"                             # choice 2
    flip: bool = False                              # choice 11
    loss_decoder: str = "vae"                       # choice 2; or an AutoencoderTiny, cheaper
    cache: bool = True                              # False: encode pictures and texts every step
    conditioning_dropout: float = 0.05              # choice 6: 5 % text, 5 % image, 5 % both
    align_below: int | None = None                  # choice 7: every t, as Eq. 10 writes it
    align_weight: AlignWeight = "none"              # choice 7
    align_to: AlignTo = "text"                       # choice 20: Eqs. 8 and 9 align with texts
    noise_reduction: NoiseReduction = "mean"        # choice 15: Eq. 10 prints a sum
    hinge: bool = False                             # choice 16: an alignment ends at the target's
    balance: float | None = None                    # choice 17: gradient over the noise term's
    clip_alignments: float | None = None            # choice 17: the same, where it is longer
    align_restore: float = 0.0                      # choice 18: share of the known noise put back
    flatten: float = 0.0                            # choice 18: length of an adversarial step
    augment_judged: bool = False                    # choice 18: judged pixels shifted and noised
    align_agree: bool = False                       # choice 18: pulls only where noise term does
    region_gradient: RegionGradient = "all"         # choice 18: where Eq. 8 may change pixels
    ema: bool = True                                # choice 8
    ema_decay: float = 0.9999                       # choice 8
    ema_on_cpu: bool = False                        # less GPU memory: the EMA in the host's
    adam_8bit: bool = False                         # less memory: moments in 8 bits
    adam_beta1: float = 0.9                         # choice 8
    adam_beta2: float = 0.999                       # choice 8
    weight_decay: float = 1e-2                      # choice 8
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False            # less memory: activations are recomputed
    memory: float | None = None                     # GB of the GPU: picks a plan that fits
    show_every: int = 1000                          # steps between previews of val edits; 0: never
    compile: bool = False                           # torch.compile of UNet and loss decoder
    attention: Attention = "sdpa"                   # the paper: xFormers
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
    more_instructions: tuple[str, ...] = ()         # each an edit of every photo
    instructions: str | None = None                 # a file of them, for all photos or for each
    seeds: str | None = None                        # "0,1,2": an edit of each photo with each
    also: tuple[str, ...] = ()                      # further photos and folders of photos
    recursive: bool = False                         # photos in subfolders, too
    mask: str | None = None                         # data, none, a file or a folder
    mask_text: str | None = None                    # what to edit, found in each picture
    mask_text_model: str = "CIDAS/clipseg-rd64-refined"
    mask_text_sam: str | None = None                # fills the boxes of a GroundingDINO
    feather: int = 0                                # pixels outside the mask over which it fades
    crop_to_mask: bool = False                      # edit a window round the mask
    margin: int = 64                                # pixels round the mask, of that window
    out: str | None = None                          # a folder for photos' edits, or an address
    export: str | None = None                       # a folder for a benchmark's own judge
    format: PhotoFormat | None = None               # None: the photo's own
    quality: int | None = None                      # of JPEG and WebP; None: see docs/editors.md
    redo: tuple[str, ...] = ()                      # ids of edits to make anew, in a run that began
    retry_failed: bool = False                      # also those whose inputs have not changed
    overwrite: bool = False                         # make all anew, also over other files in out
    captions: tuple[str, ...] = ()                  # describe runs, before the data's own texts
    shard: str | None = None                        # 2/5: the second fifth of the batches
    candidates: int = 1                             # edits of each, of which one is kept
    choose_by: Choosing = "judges"                  # medoid: the one most like the others
    region_clip: str | None = None                  # a fit-clip run, for candidates
    scene_blip: str | None = None                   # a fit-blip run, for candidates
    source_caption: str | None = None               # what every picture shows
    target_caption: str | None = None               # what every edit is to show
    editor: str = "ip2p"                            # or your own (see ric.registry)
    unet: str = "timbrooks/instruct-pix2pix"        # or a train-unet run
    unet_magicbrush: str = MAGICBRUSH               # or a train-unet run (ZONE)
    segmenter: str = "facebook/sam-vit-huge"        # any SAM; felzenszwalb: no weights (ZONE)
    zone_attention: ZoneAttention = "text"          # null: the release's (ZONE)
    save_intermediates: bool = False                # every map of an edit (ZONE)
    text_to_image: str = "CompVis/stable-diffusion-v1-4"
    steps: int = 100                                # choice 13
    guidance: float = 7.5                           # choice 13; see ric.registry
    image_guidance: float = 1.5                     # choice 13
    scheduler: str | None = None                    # of diffusers; None: the editor's own
    skip: int = 36                                  # of the steps (DDPM Inversion)
    source_guidance: float = 3.5                    # (DDPM Inversion)
    keep_last_noise: bool = False                   # (DDPM Inversion)
    dds_weight: float = 1.0                         # (CDS)
    contrast_weight: float = 3.0                    # (CDS)
    image_size: int = 512                           # choice 13
    batch_size: int = 4
    allow_overlap: bool = False


@dataclass(frozen=True, kw_only=True)
class EvalConfig(CommandConfig):
    """`ric eval`: the six metrics of Sec. 4, defined as docs/scoring.md says."""

    split: SplitName = "test"
    dtype: Dtype = "fp32"                           # all metrics are computed in it
    edits: tuple[str, ...] = ()                     # "Label=RUN or DIR", …
    source: str | None = None                       # a folder of photos, in place of DATA
    target: str | None = None                       # with source: a folder of their ground truths
    mask: str | None = None                         # with source: a folder of their masks
    texts: str | None = None                        # a CSV of texts, or MagicBrush's captions
    register: bool = False                          # score outputs put back onto their sources
    turns: Turns = "all"                            # final: the last turn of each photo alone
    match: Match = "id"                             # by what an output's file is named
    fit: OutputFit | None = None                    # for outputs of another shape; None: a failure
    decode: Decode = "ric"                          # plain: as Pillow alone reads pictures
    partial: bool = False                           # allow outputs for under 95 % of the samples
    group_by: GroupBy | None = None                 # also a table for each group of samples
    fid_set: str | None = None                      # a folder of reference pictures for FID
    layout: Layout = "table-1"                      # the paper's: 2 and 3 have a column per editor
    protocol: EvalProtocol = "none"                 # whose definitions; see PROTOCOLS
    metrics: str | None = None                      # "l1,fid,my.py:Name"; see ric.metric_table
    reference: Reference = "target"
    text: EvalText = "region_text"
    fid: FidKind = "clean"
    lpips_net: LpipsNet = "alex"
    clip: str = "openai/clip-vit-base-patch32"
    dino: str = "facebook/dino-vits16"
    region_clip: str | None = None                  # a fit-clip run, for context_consistency
    judge: str = "none"                             # chat, openai or yours: a VLM that gives scores
    judge_model: str | None = None                  # a model, or what the server calls its own
    judge_prompts: str | None = None                # a folder of prompts in place of ric's
    judge_swap: bool = False                        # ask about each pair in both orders
    judge_dtype: Dtype = "auto"                     # of the judge's weights (chat)
    judge_batch_size: int = 1                       # questions that it answers at once (chat)
    max_new_tokens: int = 520                       # the judge's longest answer
    attempts: int = 3                               # answers to a question, before it fails
    load_in: Bits | None = None                     # weights by bitsandbytes (chat)
    base_url: str | None = None                     # of the judge's server (openai)
    concurrency: int = 8                            # requests in flight (openai)
    timeout: float = 120.0                          # seconds for one request (openai)
    sent_pixels: int = 1_048_576                    # a larger picture is scaled down (openai)
    agree_with: str | None = None                   # an eval run of another judge
    batch_size: int = 16
    allow_overlap: bool = False


# --- the embedded family: ric's own sizes, not the paper's --------------------------------------
@dataclass(frozen=True, kw_only=True)
class TinyConfig(CommandConfig):
    """The settings of every `ric tiny` training, made for drawn scenes of 64 pixels."""

    preset: Preset = "tiny"
    split: SplitName = "train"
    base: str = "tiny"                  # starting weights: a folder, a run, the embedded ones
    image_size: int = 64
    steps: int = 4000
    batch_size: int = 32
    lr: float = 1e-3
    optimizer: Literal["adamw", "muon"] = "adamw"
    warmup_steps: int = 100
    constant_share: float = 0.0         # of the steps, before the rate falls along a cosine
    weight_decay: float = 1e-2
    ema_decay: float = 0.999
    averages: int = 1                   # EMAs, each four times as long; the best is kept
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    measure_every: int = 500
    log_every: int = 25


@dataclass(frozen=True, kw_only=True)
class TinyVaeConfig(TinyConfig):
    """`ric tiny vae`: the autoencoder of both pipelines."""

    batch_size: int = 16
    kl_weight: float = 1e-4             # of the divergence per latent value
    decoder_only: bool = False          # the encoder, and with it the latents, stay


@dataclass(frozen=True, kw_only=True)
class TinyClipConfig(TinyConfig):
    """`ric tiny clip`: a CLIP for whole pictures and captions."""

    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class TinyCaptionerConfig(TinyConfig):
    """`ric tiny captioner`: a BLIP that writes scene paragraphs."""

    vision: str | None = None           # a fit-blip run whose vision tower it starts with
    colour_noise: float = 0.0           # share of the colour words it reads that are replaced


@dataclass(frozen=True, kw_only=True)
class TinyClassifierConfig(TinyConfig):
    """`ric tiny classifier`: a ResNet that reads scenes and the things in them."""

    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class TinyPriorConfig(TinyConfig):
    """`ric tiny prior`: a UNet and its text encoder, before `ric train-unet`."""

    vae: str | None = None              # a tiny-vae run; None: the base's own
    conditioning_dropout: float = 0.05  # choice 6
    text_to_image: bool = False         # drop the source channels of an editor's UNet
    layers: int = 0                     # ResNet blocks per level of the UNet; 0: as the base has
    width: float = 1.0                  # how many times the base's channels, groups and heads
    edit_weight: float = 0.0            # added to a position's weight of 1 where pixels change
    context_weight: float = 0.0         # added where they change beside the edited thing
    noise_power: float = 1.0            # t is 1000 u^this: below 1, more high noise
    block: int = 0                      # fresh scenes, this many at a time; 0: all of DATA at once
    passes: int = 8                     # over each block


@dataclass(frozen=True, kw_only=True)
class TinyScoreConfig(CommandConfig):
    """`ric tiny score`: scores of each member on scenes it has not seen."""

    preset: Preset = "tiny"
    split: SplitName = "test"
    image_size: int = 64


# fmt: on

# --- presets -------------------------------------------------------------------------------------

# The values of `--preset tiny`: the embedded family, and sizes that two CPU cores can finish.
TINY: dict[type[CommandConfig], dict[str, Any]] = {
    CommandConfig: {},
    DescribeConfig: {"describer": "dataset", "model": "tiny"},
    FitClipConfig: {
        "clip": "tiny", "image_size": 64, "batch_size": 16, "fusion_epochs": 4, "joint_epochs": 2,
        "fusion_lr": 1e-3, "joint_lr": 1e-4, "log_every": 1, "checkpoint_every": 20,
        "measure_every": 2, "base": "tiny",
    },
    FitBlipConfig: {
        "blip": "tiny", "image_size": 64, "batch_size": 16, "epochs": 4, "lr": 1e-4,
        "log_every": 1, "checkpoint_every": 20, "measure_every": 2, "base": "tiny",
    },
    TrainUnetConfig: {
        "base": "tiny", "region_clip": "tiny", "scene_blip": "tiny", "image_size": 64, "steps": 20,
        "log_every": 1, "checkpoint_every": 10, "show_every": 0,
    },
    EditConfig: {
        "region_clip": "tiny", "scene_blip": "tiny",
        "unet": "tiny", "unet_magicbrush": "tiny", "segmenter": FELZENSZWALB,
        "text_to_image": "tiny", "steps": 8, "guidance": 1.5,
        "image_guidance": 1.05, "image_size": 64, "batch_size": 20,
        "dtype": "fp32",  # as sharp on every CPU; bf16 costs 0.3 dB
    },
    EvalConfig: {"clip": "tiny", "dino": "tiny", "region_clip": "tiny"},
    TinyVaeConfig: {}, TinyClipConfig: {}, TinyCaptionerConfig: {}, TinyClassifierConfig: {},
    TinyPriorConfig: {}, TinyScoreConfig: {},
}  # fmt: skip


def compares_two(config: EvalConfig) -> bool:
    """Tell whether `ric eval A/ B/` compares two folders, without any source."""
    return config.source is not None and config.source == config.target


def as_dict(config: CommandConfig) -> dict[str, Any]:
    """Return the config as JSON-ready values, in the order of the dataclass."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(config).items()
    }


def flag_of(setting: str) -> str:
    """Return a setting as it is typed: `--image-size` for `image_size`."""
    return "--" + setting.replace("_", "-")


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as words of a command line: `--steps=2`, `--no-region-loss`."""

    def word(key: str, value: Any) -> str:
        if isinstance(value, bool):
            return flag_of(key if value else f"no_{key}")
        return f"{flag_of(key)}={value}"

    return [word(key, value) for key, value in settings.items()]


def command_of(config: CommandConfig | type[CommandConfig]) -> str:
    """Return the command of a config, or of its class, as it is typed: `train-unet`, `tiny vae`."""
    kind = config if isinstance(config, type) else type(config)
    words = re.findall("[A-Z][a-z]+", kind.__name__.removesuffix("Config"))
    return "-".join(words).lower().replace("tiny-", "tiny ")
