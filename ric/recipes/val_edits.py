"""The same few val samples edited again and again while a UNet trains, to be looked at.

Each time `val/step-NNNNNN/` in the run gets a picture per sample and `sheet.png`: source, edit and
target side by side. The noise of an edit is a function of the seed and the sample's id, so two
sheets differ by nothing but the weights; they are those of the step, not their average.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ric.config import EditConfig, resolve_config
from ric.data.sample import load_samples
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.errors import SampleError
from ric.recipes.edit_sheet import SHEET, before_after_target
from ric.rows import writer_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from diffusers import StableDiffusionInstructPix2PixPipeline

    from ric.config import TrainUnetConfig
    from ric.data.edit_sample import EditSample
    from ric.progress import Progress
    from ric.run_dir import RunDir

SHOWN = 6  # samples
STEPS = 20  # denoising steps at most


class ValEdits:
    """The first val samples of DATA, and the pipeline that edits them.

    Args:
        config: DATA, seed and sizes; scales and steps are those `ric edit` takes in its preset.
        run: Gets the pictures.
        pipeline: Its UNet may be in training.
    """

    def __init__(
        self, config: TrainUnetConfig, run: RunDir, pipeline: StableDiffusionInstructPix2PixPipeline
    ) -> None:
        """Choose the samples; see the class."""
        self.folder = run.path / "val"
        self.samples = list(islice(_readable(config), SHOWN))
        self.sources = [one.load_source() for one in self.samples]
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
        """Edit the samples with the UNet as it is after so many steps; nothing without samples.

        A look that fails (a full disk, too little memory) is told and ends nothing.
        """
        unet = self.pipeline.unet
        trains = unet.training
        unet.eval()
        try:
            self._write_sheet(self.folder / f"step-{step:06d}")
        except (OSError, RuntimeError, SampleError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            progress.note(f"no val edits after step {step}: {reason}")
        finally:
            unet.train(trains)

    def _write_sheet(self, folder: Path) -> None:
        if not self.samples:
            return
        folder.mkdir(parents=True, exist_ok=True)
        pairs = zip(self.samples, self.sources, strict=True)
        made = self.editor.edit(
            [EditRequest(one.id, source, one.instruction) for one, source in pairs]
        )
        shown = []
        for sample, edited in zip(self.samples, made, strict=True):
            if edited is not None:
                edited.save(folder / f"{sample.id}.png")
                shown.append(sample)
        if shown:
            aside = folder / f".{writer_name()}.png"
            before_after_target(shown, folder).save(aside)
            aside.replace(folder / SHEET)


def _readable(config: TrainUnetConfig) -> Iterator[EditSample]:
    """Pass over samples whose pictures cannot be read: they are not what this is about."""
    samples = load_samples(
        config.data,
        split="val",
        columns=config.columns,
        max_pixels=config.max_pixels,
        on_failure=lambda error: None,
    )
    for sample in samples:
        try:
            sample.load_source()
            sample.load_target()
        except SampleError:
            continue
        yield sample
