"""`ric tiny prior`: the UNets' prior checkpoints, with their text encoder.

An 8-channel UNet learns to edit (InstructPix2Pix, Brooks et al. 2023), a 4-channel one to draw from
a caption (Stable Diffusion); `--text-to-image` turns the first into the second. Both learn by the
diffusion loss alone, UNet and text encoder together, since the text encoder starts from random
weights. `ric train-unet` then keeps it frozen.

Both predict v (Salimans & Ho 2022), as their scheduler's config says. With a UNet that predicts the
noise, the picture comes from a division by sqrt(alpha_bar_t): at t = 999 its error is magnified
14.6 times, just where an edit's structure is decided. `--noise-power P` below 1 draws more of those
steps.

Most of a picture stays as it is, and a UNet soon learns to copy. `--edit-weight W` weights latent
positions whose pixels change by 1 + W in an editor's loss; `--context-weight W` adds W where they
change beside the edited thing: a shadow, a mirror image.

`--layers N` first grows the UNet to N ResNet blocks per level, which changes nothing that it
predicts; `--width 1.5` to that many times its channels, which changes it little.

For the study of context, the editing prior is trained on scenes *without* shadows and mirror
images: it can edit a thing, and has never seen what should follow.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor

from ric.device import pick_device
from ric.errors import RicError
from ric.inputs.batches import Draw, draw_sample
from ric.method.denoising import add_noise, clean_from_prediction, predict_noise, training_target
from ric.models.locate import locate
from ric.models.pipeline import forget_source_channels, load_pipeline
from ric.progress import Progress, Silent
from ric.recipes.tiny.encoded import EncodedSamples, FreshScenes
from ric.recipes.tiny.growth import deepen, widen
from ric.recipes.tiny.pictures import load_drawn, load_held_out
from ric.recipes.tiny.steps import Lesson, batch_of_step, train_steps
from ric.runs.artifacts import artifact_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from diffusers import StableDiffusionInstructPix2PixPipeline
    from torch import Tensor

    from ric.config import TinyPriorConfig
    from ric.runs.run import RunDir

LOOKED_AT = (999, 500, 150)  # the t at which the errors by part of the picture are measured
LOOKED_AT_FIRST = 128  # held-out samples that they are measured on


def train_prior(config: TinyPriorConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Train a UNet and its text encoder on DATA; return the run's folder `pipeline`.

    Raises:
        RicError: there is no usable sample, or the loss was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    base = locate(config, "base", run)
    pipeline = load_pipeline(base, device)
    if config.vae is not None:
        path = locate(config, "vae", run)
        vae = AutoencoderKL.from_pretrained(path, torch_dtype=torch.float32)
        pipeline.vae = vae.to(device).eval().requires_grad_(False)
    if config.text_to_image:
        forget_source_channels(pipeline.unet)
    _grow(pipeline, config)
    pipeline.unet.to(memory_format=torch.channels_last)
    if device.type == "cpu":
        # on a CPU the backward pass of torch's fused attention is slower than plain products
        pipeline.unet.set_attn_processor(AttnProcessor())
        pipeline.text_encoder.set_attn_implementation("eager")
    loss = DiffusionLoss(pipeline, config)
    known, seen_at = _load(pipeline, config, run, progress, edits=loss.edits)

    def loss_of(step: int) -> dict[str, Tensor]:
        data, which = seen_at(step)
        draws = loss.draw(data, len(which), step, config.conditioning_dropout)
        return {"loss": loss(data, which, draws, config.noise_power)}

    lesson = Lesson(
        {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder},
        loss_of,
        measure=lambda: measure(loss, known),
        worth=lambda figures: -figures["val_loss"],
    )
    train_steps(lesson, config, run, progress)
    with artifact_folder(run, "pipeline") as folder:
        if not loss.edits:
            StableDiffusionPipeline(
                **pipeline.components, requires_safety_checker=False
            ).save_pretrained(folder)
        else:
            pipeline.save_pretrained(folder)
    return run.path / "pipeline"


def _grow(pipeline: StableDiffusionInstructPix2PixPipeline, config: TinyPriorConfig) -> None:
    """Replace the pipeline's UNet by a deeper or a wider one, if that is asked for."""
    before = pipeline.unet.config.layers_per_block
    if config.layers and config.layers < before:
        raise RicError(
            f"--layers {config.layers}: {config.base} already has {before} per level.",
            "A UNet can only grow.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.layers:
            pipeline.unet = deepen(pipeline.unet, config.layers)
        if config.width != 1:
            try:
                pipeline.unet = widen(pipeline.unet, Fraction(config.width).limit_denominator(16))
            except ValueError as error:
                raise RicError(f"--width {config.width:g}: {error}.", "Try 1.5 or 2.") from None


class Answer(NamedTuple):
    """A UNet's prediction and its input; each (B, C, h, w)."""

    prediction: Tensor
    noisy: Tensor
    clean: Tensor
    noise: Tensor


class DiffusionLoss:
    """The diffusion loss of a pipeline's UNet and text encoder.

    Attributes:
        edits: Whether the UNet reads a source picture.
        alpha_bar: alpha_bar_t of every t (1000,).
        kind: The scheduler's prediction type.
        scale: The VAE's scaling factor.
    """

    def __init__(
        self, pipeline: StableDiffusionInstructPix2PixPipeline, config: TinyPriorConfig
    ) -> None:
        """Hold the networks, the noise schedule and the loss weights."""
        self._unet, self._text_encoder = pipeline.unet, pipeline.text_encoder
        self._config, self._device = config, pipeline.device
        self.edits = self._unet.config.in_channels == 2 * self._unet.config.out_channels
        schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
        self.alpha_bar = schedule.alphas_cumprod.to(self._device)
        self.kind: str = schedule.config.prediction_type
        self.scale: float = pipeline.vae.config.scaling_factor

    def draw(self, data: EncodedSamples, count: int, step: int, dropout: float) -> list[Draw]:
        """Draw noise, t and conditioning dropout for the samples of a step."""
        return [
            draw_sample(
                self._config.seed, step, k,
                shape=data.means.shape[1:], num_timesteps=len(self.alpha_bar), dropout=dropout,
            )
            for k in range(count)
        ]  # fmt: skip

    def answer(
        self, data: EncodedSamples, which: Sequence[int], draws: Sequence[Draw], steps: Tensor
    ) -> Answer:
        """Run the UNet on samples noised to `steps` (B,)."""
        device = self._device
        spread, noise = (
            torch.stack([getattr(draw, name) for draw in draws]).to(device)
            for name in ("spread", "noise")
        )
        mean, std = (part[which].float().to(device) for part in (data.means, data.stds))
        clean = (mean + std * spread) * self.scale
        noisy = add_noise(clean, noise, self.alpha_bar[steps])
        ids = data.ids[which]
        ids[torch.tensor([draw.drop_text for draw in draws])] = data.null_ids
        prompts = self._text_encoder(ids.to(device)).last_hidden_state
        if self.edits:
            source = data.sources[which].float().to(device)
            source[torch.tensor([draw.drop_source for draw in draws], device=device)] = 0
            prediction = predict_noise(self._unet, noisy, steps, prompts, source)
        else:
            prediction = self._unet(noisy, steps, encoder_hidden_states=prompts).sample
        return Answer(prediction.float(), noisy, clean, noise)

    def __call__(
        self, data: EncodedSamples, which: Sequence[int], draws: Sequence[Draw], power: float = 1.0
    ) -> Tensor:
        """Compute the loss of a batch; a `power` below 1 shifts t to high noise."""
        at = torch.tensor([draw.timestep for draw in draws], device=self._device)
        steps = lean_to_noise(at, power, len(self.alpha_bar))
        answer = self.answer(data, which, draws, steps)
        target = training_target(answer.clean, answer.noise, self.alpha_bar[steps], self.kind)
        where = torch.ones_like(answer.clean[:, :1])
        if self.edits:
            where += self._config.edit_weight * data.changed[which].to(self._device)
            where += self._config.context_weight * data.context[which].to(self._device)
        return weighted_error(answer.prediction, target, where)


def measure(loss: DiffusionLoss, known: EncodedSamples) -> dict[str, float]:
    """Measure the loss on held-out samples, and an editor's errors by part of the picture.

    The noise and the timesteps are the same each time.
    """
    total, errors = 0.0, {t: PartErrors() for t in LOOKED_AT if loss.edits}
    for number, start in enumerate(range(0, len(known), 64)):
        which = list(range(start, min(start + 64, len(known))))
        draws = loss.draw(known, len(which), -1 - number, 0.0)
        total += loss(known, which, draws).item() * len(which)
        for t, error in errors.items() if start < LOOKED_AT_FIRST else ():
            steps = torch.full((len(which),), t, device=loss.alpha_bar.device)
            answer = loss.answer(known, which, draws, steps)
            found = clean_from_prediction(
                answer.prediction, answer.noisy, loss.alpha_bar[steps], loss.kind
            )
            source = known.sources[which].float().to(found.device) * loss.scale
            error.add(found, answer.clean, source, known, which)
    figures = {"val_loss": total / len(known)}
    for t, error in errors.items():
        figures |= {f"val_{name}_at_{t}": value for name, value in error.figures().items()}
    return figures


def _load(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    config: TinyPriorConfig,
    run: RunDir,
    progress: Progress,
    *,
    edits: bool,
) -> tuple[EncodedSamples, Callable[[int], tuple[EncodedSamples, list[int]]]]:
    """Encode held-out samples; return them, and a function from a step to its data and indices."""
    if config.block:
        held_out = load_held_out(config, run, progress)
        if not held_out:
            raise RicError(f"{config.data} has no usable sample in val.", "Name a longer stream.")
        known = EncodedSamples(held_out, pipeline, config, progress, edits=edits)
        return known, FreshScenes(pipeline, config, run, progress, edits=edits).at
    trained, held_out = load_drawn(config, run, progress)
    learnt = EncodedSamples(trained, pipeline, config, progress, edits=edits)
    known = EncodedSamples(held_out, pipeline, config, progress, edits=edits)
    return known, lambda step: (learnt, batch_of_step(len(learnt), config, step))


def lean_to_noise(timesteps: Tensor, power: float, count: int) -> Tensor:
    """Map uniform t (B,) to floor(count u^power), where u = (t + 0.5) / count."""
    if power == 1:
        return timesteps
    return (count * ((timesteps + 0.5) / count) ** power).long()


def weighted_error(prediction: Tensor, target: Tensor, where: Tensor) -> Tensor:
    """Compute the squared error, weighted by position.

    Args:
        prediction: (B, C, h, w).
        target: (B, C, h, w).
        where: The weights (B, 1, h, w); the error is divided by their mean.

    Returns:
        A scalar; the plain mean where all weights are 1.
    """
    return ((prediction - target).square() * where).mean() / where.mean()


class PartErrors:
    """The squared error of clean latents by part of the picture, over batches.

    Outside both masks it is absolute; in the mask and in the context mask it is relative to the
    error of doing nothing.
    """

    def __init__(self) -> None:
        """Start with empty sums."""
        self._sums = dict.fromkeys(("outside", "count", "mask", "context"), 0.0)
        self._undone = dict.fromkeys(("mask", "context"), 0.0)

    def add(
        self,
        answer: Tensor,
        clean: Tensor,
        source: Tensor,
        data: EncodedSamples,
        which: Sequence[int],
    ) -> None:
        """Add a batch of predicted, true and source latents (B, C, h, w), all scaled alike."""
        error = (answer - clean).square().mean(1, keepdim=True).cpu()
        undone = (source - clean).square().mean(1, keepdim=True).cpu()
        mask, context = data.edited[which], data.context[which]
        outside = ~(mask | context)
        self._sums["outside"] += float(error[outside].sum())
        self._sums["count"] += float(outside.sum())
        for name, part in (("mask", mask), ("context", context)):
            self._sums[name] += float(error[part].sum())
            self._undone[name] += float(undone[part].sum())

    def figures(self) -> Mapping[str, float]:
        """Return the three errors; NaN if no picture has such a part."""
        shares = {
            name: self._sums[name] / undone if undone else float("nan")
            for name, undone in self._undone.items()
        }
        count = self._sums["count"]
        return {"outside": self._sums["outside"] / count if count else float("nan"), **shares}
