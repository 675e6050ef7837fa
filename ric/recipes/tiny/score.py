"""`ric tiny score`: scores of each member of a family on drawn scenes it has never seen.

The editor is not among them: `ric edit` and `ric eval` score it.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers import AutoencoderKL
from PIL import Image

from ric.config import DescribeConfig
from ric.data.drawn_scenes import edit_of_sample
from ric.describers.chat_vlm import ChatVlm
from ric.describers.requests import Request
from ric.device import pick_device
from ric.errors import SampleError
from ric.inputs.examples import Needs, load_examples
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.metrics.edit_success import EditChecker
from ric.metrics.scene_net import SceneNet
from ric.models.locate import locate_model
from ric.recipes import fit_blip, fit_clip
from ric.recipes.tiny.captioner import names_edited
from ric.recipes.tiny.retrieval import retrieval_among
from ric.recipes.tiny.vae import reconstruction_psnr
from ric.runs.rows import write_atomically
from ric.training.further_negatives import FurtherNegatives, source_of
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import TinyScoreConfig
    from ric.data.edit_sample import EditSample
    from ric.inputs.examples import Example
    from ric.progress import Progress
    from ric.runs.run import RunDir

Figures = dict[str, float]


def score_family(config: TinyScoreConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Score the members of the family that `tiny` means on DATA; write `family_scores.json`.

    Raises:
        RicError: a member is missing, or DATA is not drawn scenes.
    """
    work = open_work(config, run, progress)
    device = work.device

    def member(name: str) -> Path:
        return locate_model("tiny", run, tiny=name)

    needs = Needs(config.image_size, region_text="region_text")
    examples = load_examples(config, work, config.split, needs)
    figures: dict[str, Figures] = {"samples": {config.split: float(len(examples))}}

    pictures = torch.stack([one for item in examples for one in _both(item)])
    vae = AutoencoderKL.from_pretrained(member("pipeline/vae"), torch_dtype=torch.float32)
    figures["vae"] = {"psnr": reconstruction_psnr(vae.to(device).eval(), pictures)}

    region = RegionEncoder.from_pretrained(member("region_encoder")).to(device)
    scene = SceneEncoder.from_pretrained(member("scene_encoder")).to(device)
    figures["region_encoder"] = retrieval_among(
        examples, partial(fit_clip.embed, region), fit_clip.text_of
    )
    figures["scene_encoder"] = retrieval_among(
        examples,
        partial(fit_blip.embed, scene, further=FurtherNegatives(picture_of=source_of)),
        fit_blip.text_of,
    )
    samples = list(work.samples)
    figures["captioner"] = _score_captions(member("captioner"), samples, config, work.progress)
    figures["scene_classifier"] = _score_checker(member("scene_classifier"), samples, config)
    file = run.path / "family_scores.json"
    write_atomically(file, json.dumps(figures, indent=2) + "\n")
    return file


def _both(item: Example) -> list[Tensor]:
    assert item.source is not None  # load_examples keeps it
    return [item.source, item.target]


def _score_captions(
    path: Path, samples: Sequence[EditSample], config: TinyScoreConfig, progress: Progress
) -> Figures:
    settings = DescribeConfig(dtype=config.dtype, max_new_tokens=256)
    captioner = ChatVlm(path, settings, pick_device(config.device))
    requests = (Request(sample, "scene", prompt="", image="target") for sample in samples)
    texts = []
    with progress.stage("describing", total=len(samples), unit="samples") as stage:
        for _, answer in captioner.answer(requests, between_steps=lambda: None):
            if isinstance(answer, SampleError):
                raise answer
            texts.append(" ".join(answer.text.split()))
            stage.advance()
    return {"names_edited": names_edited([sample.id for sample in samples], texts)}


def _score_checker(path: Path, samples: Sequence[EditSample], config: TinyScoreConfig) -> Figures:
    """Measure how often the exact target, and doing nothing, count as a successful edit."""
    checker = EditChecker(SceneNet(path, pick_device(config.device)))
    granted = {"exact_target": 0, "doing_nothing": 0}
    for sample in samples:
        source, target = sample.load_source(), sample.load_target()
        edit = edit_of_sample(sample.id)
        shown: dict[str, Image.Image] = {"exact_target": target, "doing_nothing": source}
        for name, picture in shown.items():
            granted[name] += checker.succeeded(edit, picture, source, target)
    return {f"success_of_{name}": count / len(samples) for name, count in granted.items()}
