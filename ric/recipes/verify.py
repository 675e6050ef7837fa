"""`ric verify`: whether edits and scores equal those of the libraries, on the user's own weights.

`CHECKS` lists the comparisons. Most run `ric` and the library on the same drawn scenes; one scores
MagicBrush's test set and compares with published numbers. A check whose weights or data are not on
this machine is skipped, and says so. Nothing is downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ric.config import MAGICBRUSH, EditConfig, Preset
from ric.data.sample import load_samples
from ric.device import draw_generator, pick_device
from ric.errors import RicError
from ric.metrics.clip_similarity import PUBLISHED as CLIP
from ric.metrics.clip_similarity import ClipSimilarity
from ric.progress import Progress, Silent
from ric.registry import did_you_mean
from ric.runs.provenance import environment_report
from ric.weights import find_weight, is_present
from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from PIL.Image import Image

SEED, STEPS, EDITS = 3, 4, 2
PICTURES = 12  # of each set that is scored
SIDE = {"paper": 256, "tiny": 64}  # pixels
GUIDANCE, IMAGE_GUIDANCE = 7.5, 1.5
INCEPTION, ALEXNET = "inception-2015-12-05", "lpips-alex"
# CLIP-T of the ground truth with the local descriptions, by MagicBrush's image_eval.py on its 1,053
# test turns: all of them, and each picture's last
MAGICBRUSH_ISSUE, ORACLE_ALL, ORACLE_FINAL = "MagicBrush#27", 0.2825924, 0.2855396
SPLITS = 2  # of IS: with the usual 10, one picture in each would score 1


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The place of the weights, and where the networks run.

    Attributes:
        preset: `tiny` edits with the embedded pipeline in place of InstructPix2Pix's.
        weights: A folder searched before the hub's cache.
        device: As `--device`.
        magicbrush: The folder of MagicBrush's test set, which one check scores.
    """

    preset: Preset = "paper"
    weights: str | None = None
    device: str = "cpu"
    magicbrush: str | None = None


class Compared(NamedTuple):
    """One number by `ric` and by the library, or a difference alone.

    Attributes:
        ours: By `ric`.
        theirs: By the library.
        difference: How far they are apart, in the unit of `tolerance`.
        tolerance: What rounding explains.
    """

    ours: str
    theirs: str
    difference: float
    tolerance: float


class Check(NamedTuple):
    """A comparison.

    Attributes:
        name: As it is typed.
        what: In words.
        against: The packages, or the source of the numbers, that it is compared with.
        weight: What it needs of the table of weights.
        compare: Runs it, with the place of the weight.
        needs_magicbrush: Whether it scores MagicBrush's test set.
    """

    name: str
    what: str
    against: tuple[str, ...]
    weight: str
    compare: Callable[[Path, Asked], list[Compared]]
    needs_magicbrush: bool = False


class Verified(NamedTuple):
    """The outcome of a check.

    Attributes:
        check: It.
        compared: What it compared; empty where it was skipped.
        skipped: Why it was skipped; "" where it ran.
        problem: Why it could not be finished, such as broken weights; "" where it could.
    """

    check: Check
    compared: list[Compared]
    skipped: str = ""
    problem: str = ""

    @property
    def failed(self) -> bool:
        """True if a number is further from the library's than rounding explains, or is not one."""
        equal = all(one.difference <= one.tolerance for one in self.compared)
        return bool(self.problem) or not equal

    @property
    def result(self) -> str:
        """`equal`, `differs` or `skipped`."""
        return "skipped" if self.skipped else "differs" if self.failed else "equal"


def verify(
    asked: Asked, names: tuple[str, ...] = (), progress: Progress | None = None
) -> list[Verified]:
    """Run the checks.

    Args:
        asked: Where the weights are, and the device.
        names: Some of `CHECKS`; empty: all.
        progress: Counts them.

    Raises:
        RicError: a name is unknown.
    """
    by_name = {check.name: check for check in CHECKS}
    for name in names:
        if name not in by_name:
            hint = f"{did_you_mean(name, by_name)}Choose from: {', '.join(by_name)}."
            raise RicError(f"No check {name!r}.", hint)
    chosen = [by_name[name] for name in names] or list(CHECKS)
    done = []
    with (progress or Silent()).stage("verifying", total=len(chosen), unit="checks") as stage:
        for check in chosen:
            done.append(_verified(check, asked))
            stage.advance()
    return done


def _verified(check: Check, asked: Asked) -> Verified:
    if check.needs_magicbrush and asked.magicbrush is None:
        return Verified(check, [], skipped="name the folder of MagicBrush's test set: --magicbrush")
    place = _place(check, asked)
    if place is None:
        reason = f"{check.weight} is not on this machine: ric weights get {check.weight}"
        return Verified(check, [], skipped=reason)
    try:
        return Verified(check, check.compare(place, asked))
    except ModuleNotFoundError as error:
        return Verified(check, [], skipped=f"{error.name} is not installed")
    except RicError as error:
        return Verified(check, [], problem=error.message)


def _place(check: Check, asked: Asked) -> Path | None:
    if asked.preset == "tiny" and check.weight == EditConfig.unet:
        return tiny_family() / "pipeline"
    weight = find_weight(check.weight)
    return None if weight is None else is_present(weight, asked.weights)


def versions(against: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the versions of what was compared, and the machine, for the table that is pasted."""
    from importlib.metadata import version

    report = environment_report()
    names = ("torch", "diffusers", "transformers", *against)
    found = {name: version(name) for name in dict.fromkeys(names) if name != MAGICBRUSH_ISSUE}
    return {**found, "machine": str(report["machine"])}


# --- edits ---------------------------------------------------------------------------------------
def _edits(place: Path, asked: Asked) -> list[Compared]:
    """Edit scenes with `ric` and with diffusers' own pipeline, from the same noise."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    from ric.editors.editor import EditRequest
    from ric.editors.instruct_pix2pix import InstructPix2Pix

    device = pick_device(asked.device)
    scenes = _scenes(EDITS, SIDE[asked.preset])
    requests = [
        EditRequest(scene.id, scene.load_source(), scene.instruction or "") for scene in scenes
    ]
    editor = InstructPix2Pix(
        place,
        device=device,
        dtype="fp32",
        steps=STEPS,
        guidance=GUIDANCE,
        image_guidance=IMAGE_GUIDANCE,
        image_size=SIDE[asked.preset],
        seed=SEED,
    )
    ours = editor.edit(requests)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        place, safety_checker=None, requires_safety_checker=False, use_safetensors=True
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    generators = [draw_generator(SEED, "edit", request.id) for request in requests]
    side = SIDE[asked.preset] // pipeline.vae_scale_factor
    shape = (1, pipeline.vae.config.latent_channels, side, side)
    noise = [torch.randn(shape, generator=generator) for generator in generators]
    theirs = pipeline(
        [request.instruction for request in requests],
        [request.image for request in requests],
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        image_guidance_scale=IMAGE_GUIDANCE,
        generator=generators,
        latents=torch.cat(noise).to(device),
    ).images
    pairs = zip(ours, theirs, strict=True)
    apart = [float(np.abs(_levels(one) - _levels(other)).max()) for one, other in pairs]
    return [Compared(f"{EDITS} edits, {STEPS} steps", "the same, in levels of 255", max(apart), 2)]


def _levels(picture: Image | None) -> np.ndarray:
    return np.full(1, np.nan) if picture is None else np.asarray(picture, dtype=float)


# --- scores --------------------------------------------------------------------------------------
def _scenes(count: int, side: int) -> list[Any]:
    return list(load_samples(f"scenes:{count}@{side}#{SEED}"))


def _two_sets() -> tuple[list[Image], list[Image]]:
    """Return sources and targets: what is scored, and what it is compared with."""
    scenes = _scenes(PICTURES, SIDE["paper"])
    return [one.load_source() for one in scenes], [one.load_target() for one in scenes]


def _relative(ours: float, theirs: float, tolerance: float) -> Compared:
    apart = abs(ours - theirs) / max(abs(theirs), 1e-12)
    return Compared(f"{ours:.6g}", f"{theirs:.6g}", apart, tolerance)


def _clean_fid(place: Path, asked: Asked) -> list[Compared]:
    """Compare FID and KID with clean-fid, which reads the same files through the same layers."""
    import cleanfid.features
    import cleanfid.fid

    from ric.metrics.fid import fid_from_features
    from ric.metrics.inception import InceptionFeatures

    device = pick_device(asked.device)
    edited, target = _two_sets()
    network = InceptionFeatures(place, device, kind="clean")
    ours = [network.set_features(side).features.numpy() for side in (edited, target)]
    with TemporaryDirectory() as folder:
        theirs = [
            cleanfid.fid.get_folder_features(
                str(saved),
                lambda pixels: network.activations((pixels - 128) / 128),
                mode="clean", num_workers=0, batch_size=PICTURES, device=device, verbose=False,
            )
            for saved in _save(Path(folder), edited, target)
        ]  # fmt: skip
    fid = cleanfid.fid.fid_from_feats(*theirs)
    return [_relative(fid_from_features(*ours).value, fid, 1e-4)]


def _torch_fidelity(place: Path, asked: Asked) -> list[Compared]:
    """Compare FID and IS with torch-fidelity, which loads the same weights by itself."""
    import torch_fidelity

    from ric.metrics.fid import fid_from_features
    from ric.metrics.inception import InceptionFeatures
    from ric.metrics.inception_score import inception_score

    device = pick_device(asked.device)
    edited, target = _two_sets()
    network = InceptionFeatures(place, device, kind="torch-fidelity")
    first, second = (network.set_features(side) for side in (edited, target))
    with TemporaryDirectory() as folder:
        sides = [str(saved) for saved in _save(Path(folder), edited, target)]
        theirs = torch_fidelity.calculate_metrics(
            input1=sides[0], input2=sides[1], fid=True, isc=True, isc_splits=SPLITS,
            feature_extractor_weights_path=str(place), cuda=device.type == "cuda", cache=False,
            verbose=False,
        )  # fmt: skip
    fid = fid_from_features(first.features, second.features).value
    score = inception_score(first.logits, splits=SPLITS).mean
    return [
        _relative(fid, theirs["frechet_inception_distance"], 1e-4),
        _relative(score, theirs["inception_score_mean"], 1e-4),
    ]


def _save(folder: Path, *sides: list[Image]) -> list[Path]:
    """Save each set as PNGs in a folder of its own, in order."""
    saved = [folder / str(number) for number in range(len(sides))]
    for place, side in zip(saved, sides, strict=True):
        place.mkdir()
        for number, picture in enumerate(side):
            picture.save(place / f"{number:03}.png")
    return saved


def _lpips(place: Path, asked: Asked) -> list[Compared]:
    """Compare LPIPS with the package's own class, into which torchvision's weights are copied."""
    import lpips

    from ric.metrics.lpips_distance import LpipsDistance

    device = pick_device(asked.device)
    edited, target = _two_sets()
    ours = LpipsDistance("alex", place, device).distances(edited, target).mean().item()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, on how the package calls it
        library = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(place, map_location="cpu", weights_only=True)
    for name, weight in library.net.named_parameters():
        weight.data.copy_(state[f"features.{name.partition('.')[2]}"])  # slice2.3.bias
    as_input = [
        torch.stack([lpips.im2tensor(np.asarray(picture))[0] for picture in side])
        for side in (edited, target)
    ]
    with torch.no_grad():
        theirs = library.to(device)(*(side.to(device) for side in as_input)).mean().item()
    return [_relative(ours, theirs, 1e-4)]


def _magicbrush_oracle(place: Path, asked: Asked) -> list[Compared]:
    """Score MagicBrush's ground truths with CLIP-T and compare with its script's "oracle".

    The script was run by somebody else, on a GPU, where OpenAI's package computes in half
    precision: the tolerance is that of its cosines.
    """
    turns = [one.decoded("plain") for one in load_samples(f"magicbrush:{asked.magicbrush}")]
    if missing := [one.id for one in turns if not (one.region_text and one.has_target)]:
        raise RicError(
            f"{len(missing)} of {len(turns)} turns lack a target or a caption: {missing[0]}",
            "The release has both: images/ and local_descriptions.json.",
        )
    clip = ClipSimilarity(place, pick_device(asked.device))
    texts = clip.text_embeddings([one.region_text or "" for one in turns])
    cosines: list[float] = []
    final: dict[str, float] = {}  # of each picture: the turns are in order, so the last one stays
    for turn, text in zip(turns, texts, strict=True):
        cosines.append((clip.image_embeddings([turn.load_target()])[0] @ text).item())
        final[turn.group()] = cosines[-1]
    found = (float(np.mean(cosines)), ORACLE_ALL), (float(np.mean([*final.values()])), ORACLE_FINAL)
    return [
        Compared(f"{ours:.5f}", f"{theirs:.5f}", abs(ours - theirs), 5e-4) for ours, theirs in found
    ]


CHECKS = (
    Check("edit-ip2p", "edits of InstructPix2Pix", ("diffusers",), EditConfig.unet, _edits),
    Check("edit-magicbrush", "edits of MagicBrush", ("diffusers",), MAGICBRUSH, _edits),
    Check("clean-fid", "FID (clean)", ("clean-fid",), INCEPTION, _clean_fid),
    Check("torch-fidelity", "FID and IS", ("torch-fidelity",), INCEPTION, _torch_fidelity),
    Check("lpips", "LPIPS (AlexNet)", ("lpips",), ALEXNET, _lpips),
    Check(
        "magicbrush-oracle",
        "CLIP-T of MagicBrush's ground truths",
        (MAGICBRUSH_ISSUE,),
        CLIP,
        _magicbrush_oracle,
        needs_magicbrush=True,
    ),
)
