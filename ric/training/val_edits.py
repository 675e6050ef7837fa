"""Previews while a UNet trains: the same few val samples, edited again and again.

Each time `val/step-NNNNNN/` in the run gets a picture per sample and `sheet.png`: source, edit and
target side by side. The noise of an edit is a function of the seed and the sample's id, so two
sheets differ only by the weights. They are the step's weights, not their EMA.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from ric.config import EditConfig
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.errors import SampleError, first_line
from ric.report.edit_sheet import SHEET, before_after_target
from ric.runs.rows import save_png
from ric.settings import resolve_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from diffusers import StableDiffusionInstructPix2PixPipeline
    from PIL.Image import Image

    from ric.config import TrainUnetConfig
    from ric.data.edit_sample import EditSample
    from ric.data.sample import Samples
    from ric.progress import Progress
    from ric.work import Work

SHOWN = 6  # samples
STEPS = 20  # denoising steps at most


def preview_edits(
    config: TrainUnetConfig, work: Work, pipeline: StableDiffusionInstructPix2PixPipeline
) -> Callable[[int], None]:
    """Return the function that edits the first val samples after so many steps."""
    return partial(ValEdits(config, work, pipeline).show, progress=work.progress)


class ValEdits:
    """The first val samples of DATA, and the pipeline that edits them.

    Args:
        config: Seed and sizes; the guidance scales and at most 20 steps are those of `ric edit` in
            its preset.
        work: DATA; its run gets the pictures.
        pipeline: Its UNet may be in training mode.
    """

    def __init__(
        self, config: TrainUnetConfig, work: Work, pipeline: StableDiffusionInstructPix2PixPipeline
    ) -> None:
        """Choose the samples; see the class."""
        self.folder = work.run.path / "val"
        self.shown = list(islice(_readable(work.samples), SHOWN))
        usual = resolve_config(EditConfig, {"data": config.data, "preset": config.preset})
        self.pipeline = pipeline
        self.editor = InstructPix2Pix(
            pipeline,
            device=pipeline.device,
            dtype=config.dtype,
            steps=min(STEPS, usual.steps),
            guidance=usual.guidance,
            image_guidance=usual.image_guidance,
            image_size=config.image_size,
            seed=config.seed,
        )

    def show(self, step: int, progress: Progress) -> None:
        """Edit the samples with the current UNet, after `step` steps; nothing without samples.

        A failed preview (a full disk, too little memory) is logged; training continues.
        """
        unet = self.pipeline.unet
        trains = unet.training
        unet.eval()
        try:
            self._write_sheet(self.folder / f"step-{step:06d}")
        except (OSError, RuntimeError) as error:
            progress.note(f"no val edits after step {step}: {first_line(error)}")
        finally:
            unet.train(trains)

    def _write_sheet(self, folder: Path) -> None:
        if not self.shown:
            return
        folder.mkdir(parents=True, exist_ok=True)
        made = self.editor.edit(
            [EditRequest(sample.id, source, sample.instruction) for sample, source in self.shown]
        )
        finite = []
        for (sample, _), edited in zip(self.shown, made, strict=True):
            if edited is not None:
                save_png(edited, folder / f"{sample.id}.png")
                finite.append(sample)
        if finite:
            save_png(before_after_target(finite, folder), folder / SHEET)


def _readable(samples: Samples) -> Iterator[tuple[EditSample, Image]]:
    """Yield val's samples with their sources; skip those whose pictures cannot be read."""
    for sample in samples.narrowed("val", on_failure=lambda error: None):
        try:
            source = sample.load_source()
            sample.load_target()
        except SampleError:
            continue
        yield sample, source
