"""`ric tiny clip`: a CLIP trained on whole pictures and their captions.

It plays the part of OpenAI's CLIP: the region judge of `ric fit-clip` starts from it, and it is the
CLIP of CLIP-I and CLIP-T under `--preset tiny`, which no editor is trained with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ric.data.batches import to_unit
from ric.device import pick_device
from ric.method.judge_files import save_tower
from ric.method.losses import same_text_mask, symmetric_contrastive_loss
from ric.method.region_encoder import RegionEncoder
from ric.models.locate import locate
from ric.progress import Progress, Silent
from ric.recipes.tiny.pictures import load_drawn
from ric.recipes.tiny.retrieval import retrieval_among
from ric.recipes.tiny.steps import Lesson, batch_of_step, train_steps
from ric.runs.artifacts import artifact_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import TinyClipConfig
    from ric.recipes.tiny.pictures import DrawnSample
    from ric.runs.run import RunDir


def train_clip(config: TinyClipConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Train a CLIP on targets and their captions by Eq. 11; return the run's folder `clip`.

    Raises:
        RicError: there is no usable sample, or the loss was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    base = locate(config, "base", run)
    # without gated fusion a region encoder is CLIP itself, with a temperature and cut texts
    judge = RegionEncoder.from_clip(base, gated=False).to(device)
    trained, held_out = load_drawn(config, run, progress)

    def embed(items: Sequence[DrawnSample]) -> tuple[Tensor, Tensor]:
        images = to_unit(torch.stack([item.target for item in items]).to(device))
        whole = [(0, 0, config.image_size, config.image_size)] * len(items)
        visual = judge.encode_region(images, whole)
        return visual, judge.encode_text([item.target_text for item in items])

    def loss_of(step: int) -> dict[str, Tensor]:
        items = [trained[index] for index in batch_of_step(len(trained), config, step)]
        same = same_text_mask([item.target_text for item in items])
        loss = symmetric_contrastive_loss(*embed(items), judge.temperature, same_text=same)
        return {"loss": loss}  # Eq. 11

    def measure() -> dict[str, float]:
        found = retrieval_among(held_out, embed, lambda item: item.target_text)
        return {f"val_{key}": value for key, value in found.items()}

    train_steps(Lesson({"judge": judge}, loss_of, measure), config, run, progress)
    with artifact_folder(run, "clip") as folder:
        save_tower(judge.tower, judge.tokenizer, judge.pixels, "CLIPImageProcessor", folder)
    return run.path / "clip"
