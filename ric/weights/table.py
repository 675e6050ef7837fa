"""The table of pretrained weights: what each one is, its size and its licence.

Revisions are pinned where the commit is known; "main" and "refs/pr/N" name a branch whose commit
is not: `ric weights ls` lists them, and a run records the commit that it used (`revision_of`).
Sizes are those of the files that are fetched; one that was computed from a parameter count, not
read off the hub, says "about".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# A root checkpoint beside a pipeline's folders is the same model twice: take the folders alone.
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
PIPELINE_FILES = ("model_index.json", "*/*.safetensors", "*/*.json", "*/*.txt")

Kind = Literal["hub", "file", "embedded"]


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One pretrained weight.

    Attributes:
        id: The hub's `org/name`, or a short name for a single file.
        kind: A hub repository, one file in torch's cache, or part of `ric` itself.
        revision: Commit, or branch where the commit is not known; of a file, its name's hash.
        size_bytes: What is fetched, in bytes.
        size_is_about: The size was computed or rounded, not read.
        licence: The licence's name.
        conditions: What it requires of users of the weight.
        purpose: What `ric` uses it for.
        file_name: Of kind "file": its name in torch's hub cache (`hub/checkpoints`).
        url: Of kind "file": where it is published.
        allow_patterns: Of kind "hub": the files that are fetched.
        note: What else a user should know; logged before the download.
    """

    id: str
    kind: Kind
    revision: str
    size_bytes: int
    licence: str
    conditions: str
    purpose: str
    size_is_about: bool = False
    file_name: str | None = None
    url: str | None = None
    allow_patterns: tuple[str, ...] = MODEL_FILES
    note: str = ""

    @property
    def size(self) -> str:
        """The size in words: `86.7 MB`, `about 4.27 GB`; `part of ric` for the embedded family."""
        if self.kind == "embedded":
            return "part of ric"
        return ("about " if self.size_is_about else "") + size_in_words(self.size_bytes)


WEIGHTS: tuple[Weight, ...] = (
    Weight(
        id="openai/clip-vit-base-patch16",
        kind="hub",
        revision="57c216476eefef5ab752ec549e440a49ae4ae5f3",
        size_bytes=602_000_000,
        size_is_about=True,
        licence="MIT (of the CLIP code)",
        conditions="The model card asks that it is not deployed untested.",
        purpose="region judge's backbone (CLIP ViT-B/16)",
    ),
    Weight(
        id="Salesforce/blip-itm-base-coco",
        kind="hub",
        revision="refs/pr/5",  # adds the safetensors; main was seen with a pickle alone
        size_bytes=896_000_000,
        licence="BSD-3-Clause",
        conditions="Keep the copyright notice.",
        purpose="scene judge's backbone (BLIP, image-text matching)",
    ),
    Weight(
        id="timbrooks/instruct-pix2pix",
        kind="hub",
        revision="31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
        size_bytes=4_270_000_000,
        size_is_about=True,
        licence="MIT; its Stable Diffusion 1.5 parts CreativeML OpenRAIL-M",
        conditions="OpenRAIL-M's use restrictions pass on to whatever is fine-tuned from it.",
        purpose="InstructPix2Pix: the base of training and an editor",
        allow_patterns=PIPELINE_FILES,
    ),
    Weight(
        id="vinesmsuic/magicbrush-jul7",
        kind="hub",
        revision="main",
        size_bytes=4_270_000_000,
        size_is_about=True,
        licence="CreativeML OpenRAIL-M",
        conditions="Its use restrictions pass on to whatever is fine-tuned from it.",
        purpose="MagicBrush: InstructPix2Pix fine-tuned on hand-made edits",
        allow_patterns=PIPELINE_FILES,
        note="The hub holds pickles alone: they are converted once, which needs the space twice.",
    ),
    Weight(
        id="facebook/sam-vit-huge",
        kind="hub",
        revision="87aecf0df4ce6b30cd7de76e87673c49644bdf67",
        size_bytes=2_560_000_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="segments of edit --editor zone (SAM, ViT-H)",
    ),
    Weight(
        id="CIDAS/clipseg-rd64-refined",
        kind="hub",
        revision="999e0328d9e10b484360c477313983f9afdd7050",
        size_bytes=603_000_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="masks of edit --mask-text (CLIPSeg)",
    ),
    Weight(
        id="facebook/sam3",
        kind="hub",
        revision="3c879f39826c281e95690f02c7821c4de09afae7",
        size_bytes=3_440_000_000,
        size_is_about=True,
        licence="SAM License (Meta)",
        conditions="Accepted on the hub first; no military use, and it goes with every copy.",
        purpose="masks of edit --mask-text (SAM 3)",
        note="It is gated: accept its licence on the hub, and set HF_TOKEN.",
    ),
    Weight(
        id="IDEA-Research/grounding-dino-tiny",
        kind="hub",
        revision="a2bb814dd30d776dcf7e30523b00659f4f141c71",
        size_bytes=689_000_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="boxes of edit --mask-text (GroundingDINO, Swin-T)",
    ),
    Weight(
        id="facebook/sam-vit-base",
        kind="hub",
        revision="70c1a07f894ebb5b307fd9eaaee97b9dfc16068f",
        size_bytes=375_000_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="masks in those boxes (SAM, ViT-B)",
    ),
    Weight(
        id="CompVis/stable-diffusion-v1-4",
        kind="hub",
        revision="133a221b8aa7292a167afc5127cb63fb5005638b",
        size_bytes=4_270_000_000,
        size_is_about=True,
        licence="CreativeML OpenRAIL-M",
        conditions="Its use restrictions pass on to whatever is made from it.",
        purpose="Stable Diffusion 1.4: edit --editor ddpm-inversion, cds",
        allow_patterns=PIPELINE_FILES,
    ),
    Weight(
        id="madebyollin/taesd",
        kind="hub",
        revision="614f76814bbe30edbe2e627ace1c2234c81a2c0e",
        size_bytes=9_800_000,
        size_is_about=True,
        licence="MIT",
        conditions="Keep the copyright notice.",
        purpose="small autoencoder of Stable Diffusion's latents, for --loss-decoder",
    ),
    Weight(
        id="deepseek-ai/deepseek-vl2-tiny",
        kind="hub",
        revision="66c54660eae7e90c9ba259bfdf92d07d6e3ce8aa",
        size_bytes=6_750_000_000,
        licence="DeepSeek License (the code: MIT)",
        conditions="Use restrictions that pass on to derived models.",
        purpose="the paper's describer (DeepSeek-VL2-Tiny)",
    ),
    Weight(
        id="deepseek-community/deepseek-vl-1.3b-chat",
        kind="hub",
        revision="main",
        size_bytes=3_960_000_000,
        size_is_about=True,
        licence="DeepSeek License (the code: MIT)",
        conditions="Use restrictions that pass on to derived models.",
        purpose="a describer of the same family that transformers loads as it is",
    ),
    Weight(
        id="openai/clip-vit-base-patch32",
        kind="hub",
        revision="refs/pr/32",  # adds the safetensors; main was seen with a pickle alone
        size_bytes=609_000_000,
        licence="MIT (of the CLIP code)",
        conditions="The model card asks that it is not deployed untested.",
        purpose="CLIP-I, CLIP-T and eval --metrics clip_fid (CLIP ViT-B/32)",
    ),
    Weight(
        id="facebook/dino-vits16",
        kind="hub",
        # adds the safetensors; main was seen with a pickle alone
        revision="a7a4d161f5c0bd70478c05ca5777ec7cd8848021",
        size_bytes=86_700_000,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="DINO similarity (ViT-S/16)",
    ),
    Weight(
        id="openai/clip-vit-large-patch14",
        kind="hub",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        size_bytes=1_710_000_000,
        size_is_about=True,
        licence="MIT (of the CLIP code)",
        conditions="The model card asks that it is not deployed untested.",
        purpose="CLIP scores of eval --protocol pie-bench (CLIP ViT-L/14)",
    ),
    Weight(
        id="facebook/dino-vitb8",
        kind="hub",
        revision="main",
        size_bytes=343_000_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="structure distance of eval --protocol pie-bench (ViT-B/8)",
    ),
    Weight(
        id="facebook/dinov2-base",
        kind="hub",
        revision="369b1309d0ea32e09fdc25ee029917e2e5a2db8f",
        size_bytes=346_000_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="eval --metrics dinov2 (DINOv2 ViT-B/14)",
    ),
    Weight(
        id="facebook/dinov2-large",
        kind="hub",
        revision="47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
        size_bytes=1_220_000_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="eval --metrics fd_dinov2 (DINOv2 ViT-L/14)",
    ),
    Weight(
        id="openai/clip-vit-large-patch14-336",
        kind="hub",
        revision="ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
        size_bytes=1_710_000_000,
        size_is_about=True,
        licence="MIT (of the CLIP code)",
        conditions="The model card asks that it is not deployed untested.",
        purpose="eval --metrics cmmd (CLIP ViT-L/14 of 336 pixels)",
        note="If the hub holds pickles alone, they are converted, which needs the space twice.",
    ),
    Weight(
        id="yuvalkirstain/PickScore_v1",
        kind="hub",
        revision="a4e4367c6dfa7288a00c550414478f865b875800",
        size_bytes=3_950_000_000,
        size_is_about=True,
        licence="none named on its page",
        conditions="Ask its authors; the CLIP ViT-H/14 that it was fine-tuned from is MIT.",
        purpose="eval --metrics pick_score (CLIP ViT-H/14)",
    ),
    Weight(
        id="inception-2015-12-05",
        kind="file",
        revision="6726825d",
        size_bytes=95_600_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        purpose="FID, KID and Inception Score (Inception v3 as torch-fidelity loads it)",
        file_name="weights-inception-2015-12-05-6726825d.pth",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
    ),
    Weight(
        id="lpips-alex",
        kind="file",
        revision="7be5be79",
        size_bytes=244_400_000,
        licence="BSD-3-Clause (torchvision)",
        conditions="Keep the copyright notice; trained on ImageNet.",
        purpose="LPIPS's backbone (AlexNet); its linear heads ship inside the lpips package",
        file_name="alexnet-owt-7be5be79.pth",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ),
    Weight(
        id="lpips-vgg",
        kind="file",
        revision="397923af",
        size_bytes=553_400_000,
        licence="BSD-3-Clause (torchvision)",
        conditions="Keep the copyright notice; trained on ImageNet.",
        purpose="LPIPS with --lpips-net vgg, and eval --metrics dists (VGG16)",
        file_name="vgg16-397923af.pth",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
    ),
    Weight(
        id="lpips-squeeze",
        kind="file",
        revision="b8a52dc0",
        size_bytes=4_960_000,
        licence="BSD-3-Clause (torchvision)",
        conditions="Keep the copyright notice; trained on ImageNet.",
        purpose="LPIPS of a part of a picture, outside or inside a mask (SqueezeNet)",
        file_name="squeezenet1_1-b8a52dc0.pth",
        url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    ),
    Weight(
        id="tiny",
        kind="embedded",
        revision="",
        size_bytes=0,
        licence="Apache-2.0 (as ric)",
        conditions="none",
        purpose="--preset tiny: a family of small real models that needs no download",
    ),
)


def find_weight(name: str) -> Weight | None:
    """Look up a row by its id or file name; None if the table has none."""
    return next((weight for weight in WEIGHTS if name in (weight.id, weight.file_name)), None)


def size_in_words(size_bytes: int) -> str:
    """Format a size with three significant digits: `86.7 MB`, `6.75 GB`."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes} bytes"
