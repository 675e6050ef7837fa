"""The training data of the embedded UNets: drawn scenes as latents and token ids.

Either all of DATA, encoded once, or fresh scenes: a stream `scenes:COUNT` is drawn one block at a
time, and each block is used for a few passes before the next one is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import adaptive_max_pool2d

from ric.data.batches import to_unit
from ric.data.drawn_scenes import parse_scenes
from ric.device import autocast, pick_dtype
from ric.errors import RicError
from ric.recipes.tiny.pictures import decode
from ric.recipes.tiny.steps import batch_of_step
from ric.runs.trained_on import list_trained_on
from ric.scenes.held_out import split_of_sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import StableDiffusionInstructPix2PixPipeline

    from ric.config import TinyPriorConfig
    from ric.progress import Progress
    from ric.recipes.tiny.pictures import DrawnSample
    from ric.runs.run import RunDir


class EncodedSamples:
    """Samples as latents and token ids; in half precision, since there are many.

    Attributes:
        sources: Posterior modes (N, C, h, w), not scaled; empty for a text-to-image UNet.
        means: Means of the targets' posteriors (N, C, h, w).
        stds: Their standard deviations.
        changed: Which latent positions cover a pixel that the edit changes, bool (N, 1, h, w).
        edited: Which cover a pixel of the edited thing, likewise.
        context: Which cover one that changes beside it, and none of the thing itself, likewise.
        ids: Token ids (N, L).
        null_ids: Token ids of the empty text (L,).
    """

    @torch.no_grad()
    def __init__(
        self,
        samples: Sequence[DrawnSample],
        pipeline: StableDiffusionInstructPix2PixPipeline,
        config: TinyPriorConfig,
        progress: Progress,
        *,
        edits: bool,
    ) -> None:
        """Encode all samples."""
        device = pipeline.device
        sources, means, stds, places = [], [], [], []
        with (
            progress.stage("encoding", total=len(samples), unit="samples") as stage,
            autocast(device, pick_dtype(config.dtype, device)),
        ):
            for start in range(0, len(samples), 32):
                some = samples[start : start + 32]
                target = to_unit(torch.stack([item.target for item in some]).to(device))
                posterior = pipeline.vae.encode(target).latent_dist
                means.append(posterior.mean.half().cpu())
                stds.append(posterior.std.half().cpu())
                side = posterior.mean.shape[-1]
                pixels = torch.stack(
                    [torch.stack([(i.source != i.target).any(0), i.mask, i.context]) for i in some]
                )
                places.append(adaptive_max_pool2d(pixels.float(), side).bool())
                if edits:
                    source = to_unit(torch.stack([item.source for item in some]).to(device))
                    mode = pipeline.vae.encode(source).latent_dist.mode()
                    sources.append(mode.half().cpu())
                stage.advance(len(some))
        self.means, self.stds = torch.cat(means), torch.cat(stds)
        self.sources = torch.cat(sources) if edits else torch.empty(0)
        self.changed, self.edited, context = torch.cat(places).split(1, dim=1)
        self.context = context & ~self.edited
        texts = [item.instruction if edits else item.target_text for item in samples]
        encoded = pipeline.tokenizer(
            ["", *texts],
            padding="max_length",
            max_length=pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        self.null_ids, self.ids = encoded[0], encoded[1:]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.means)


class FreshScenes:
    """Blocks of a stream's train samples, encoded when a step first needs one.

    The samples of step n are a function of the settings and n, so a resumed run sees the same ones.
    """

    def __init__(
        self,
        pipeline: StableDiffusionInstructPix2PixPipeline,
        config: TinyPriorConfig,
        run: RunDir,
        progress: Progress,
        *,
        edits: bool,
    ) -> None:
        """Set up the stream; scenes are drawn on first use.

        Raises:
            RicError: DATA is not a stream of scenes, is too short, or is narrowed by `limit` or
                `split`; or a block is smaller than a batch.
        """
        self._make = (pipeline, config, progress)
        self._edits = edits
        self._stream, self._run = parse_scenes(config.data), run
        self._steps = config.block * config.passes // config.batch_size  # per block
        if not self._steps:
            raise RicError(
                f"{config.passes} passes over {config.block} scenes are less than one batch.",
                "Use a larger --block, or 0 for all of DATA at once.",
            )
        if config.limit is not None or config.split != "train":
            raise RicError(
                "Fresh scenes use all of the stream's train samples.",
                "Omit --limit and --split, or use --block 0.",
            )
        blocks = -(-config.steps // self._steps)
        seed, count = self._stream.seed, self._stream.count
        self._train = [index for index in range(count) if split_of_sample(seed, index) == "train"]
        if len(self._train) < blocks * config.block:
            raise RicError(
                f"{config.data} has {len(self._train)} train samples; {config.steps} steps need"
                f" {blocks * config.block}.",
                "Name a longer stream, or fewer --steps; scenes are drawn only when needed.",
            )
        self._number = -1
        self._block: EncodedSamples | None = None

    def at(self, step: int) -> tuple[EncodedSamples, list[int]]:
        """Return the block of step `step`, and the indices of the step's samples in it."""
        pipeline, config, progress = self._make
        number, within = divmod(step, self._steps)
        if number != self._number or self._block is None:
            samples = self._drawn(number)
            with torch.autocast(pipeline.device.type, enabled=False):  # leave the loop's autocast
                self._block = EncodedSamples(samples, pipeline, config, progress, edits=self._edits)
            self._number = number
        return self._block, batch_of_step(len(self._block), config, within)

    def _drawn(self, number: int) -> list[DrawnSample]:
        """Draw block `number`, and list it in the run."""
        _, config, progress = self._make
        size = config.block
        indices = self._train[number * size : (number + 1) * size]
        with progress.stage("drawing scenes", total=size, unit="samples") as stage:
            samples = []
            for index in indices:
                samples.append(decode(self._stream.sample(index), config.image_size))
                stage.advance()
        list_trained_on(samples, self._run)
        return samples
