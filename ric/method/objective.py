"""The UNet's training objective: noise, region in context, whole scene (Sec. 3.2, Eq. 10).

Choice 2, pixels are judged, not latents: x0_hat's latents are decoded by the frozen VAE with
gradient, clamped to [-1, 1] with a straight-through gradient, and the region is cropped from those
pixels. Only samples that enter an alignment or a further term are decoded. The gradient norms of
the terms are measured where they meet, at the UNet's output.

Choice 6, dropped samples: those that are not kept count as 0 and every term is divided by the
whole global batch, so micro-batches add up. Processes that *average* their gradients, as DDP does,
multiply the total by their number first.

Choice 16, ceilings: a judge can be pleased beyond what the true target pleases it. With a ceiling,
the cosine of the decoded target itself, a sample's alignment loss ends there. Choices 7 and 18, the
other rules of the alignments, are in `alignment`.

Decoding runs in the VAE's own dtype or the caller's autocast, while x0_hat and every loss are
float32 (float64 stays float64).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from ric.errors import RicError
from ric.method.alignment import (
    AlignmentRules,
    agreeing,
    augmented,
    flattened,
    gradient_near,
    restored,
)
from ric.method.denoising import clean_from_prediction, training_target
from ric.method.judge_pixels import clamp_straight_through
from ric.method.losses import (
    at_least_float32,
    cosine,
    global_loss,
    noise_loss,
    region_loss,
    share_of_batch,
)
from ric.method.noised_batch import NoisedBatch, pick, pick_some
from ric.method.region_box import Box
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder

# Shape letters: B batch, K kept samples, C latent channels, H and W latent or pixel height and
# width, P and Q the two judges' widths.


class LossTerm(Protocol):
    """A further term beside the paper's three, such as `ric.method.outside.Outside`."""

    def __call__(self, pixels: Tensor, batch: NoisedBatch) -> Tensor:
        """Compute each sample's loss.

        Args:
            pixels: x0_hat decoded (B, 3, H, W), in [-1, 1], with gradient.
            batch: The same B samples.

        Returns:
            (B,), float32 or wider, with gradient; 0 for a sample that the term leaves out.
        """


class WeightedTerm(NamedTuple):
    """A further term and its factor in the total."""

    weight: float
    term: LossTerm


class _Alignment(NamedTuple):
    """One of the two alignment losses: this batch's share of it, and the samples it covers."""

    loss: Tensor
    cosine: Tensor  # the mean, unweighted and detached; NaN without any sample
    samples: int

    def agreeing(self, noise: Tensor, prediction: Tensor) -> _Alignment:
        """Let the loss pull at the prediction only where the noise term pulls likewise."""
        return self._replace(loss=agreeing(self.loss, noise, prediction))


class _Decoded(NamedTuple):
    """The samples that were decoded."""

    rows: list[int]  # their places in the batch
    pixels: Tensor  # (K, 3, H, W) in [-1, 1], with gradient
    alpha_bar: Tensor  # (K,)
    boxes: list[Box | None]  # of the batch, in these pixels

    def of(self, rows: list[int]) -> _Decoded:
        """Select samples by their row in the batch."""
        places = [self.rows.index(row) for row in rows]
        return _Decoded(
            rows,
            pick(self.pixels, places),
            pick(self.alpha_bar, places),
            [self.boxes[place] for place in places],
        )


@dataclass(frozen=True)
class Losses:
    """Eq. 10 and its parts, each as this batch's share of the global one.

    Attributes:
        total: Eq. 10, a scalar with gradient.
        noise: The mean squared error of the prediction, before its weight.
        region: Eq. 8, before its weight; 0 where no sample was kept.
        global_: Eq. 9, before its weight; 0 where no sample was kept.
        region_cosine: Mean of cos(f_r, e_tr) over the kept samples, not weighted; NaN without any.
        scene_cosine: Mean of cos(e_f, e_tf) over the kept samples, not weighted; NaN without any.
        region_count: How many samples the region loss covers.
        scene_count: How many samples the global loss covers.
        prediction: The UNet's output (B, C, H, W).
        further: The terms beside the paper's, by name, before their weights.
    """

    total: Tensor
    noise: Tensor
    region: Tensor
    global_: Tensor
    region_cosine: Tensor
    scene_cosine: Tensor
    region_count: int
    scene_count: int
    prediction: Tensor
    further: Mapping[str, Tensor] = field(default_factory=dict)

    def parts(self) -> dict[str, Tensor]:
        """Return the terms for the log: detached float32 scalars, still on their device."""
        return {f"loss_{name}": term.detach().float() for name, term in self._terms().items()}

    def gradient_norms(self) -> dict[str, Tensor]:
        """Measure the norm of each term's gradient at the UNet's output (choice 2).

        The norm of d(term)/d(prediction), before the term's weight; 0 where the term covers no
        sample. It backpropagates once more through each judge, not through the UNet. Call it
        before `backward`.

        Returns:
            `grad_norm_noise`, `grad_norm_region`, `grad_norm_global` and further terms': float32
            scalars.
        """
        norms = {}
        for name, term in self._terms().items():
            norms[f"grad_norm_{name}"] = torch.zeros((), device=self.prediction.device)
            if term.requires_grad:
                (pull,) = torch.autograd.grad(term, self.prediction, retain_graph=True)
                norms[f"grad_norm_{name}"] = torch.linalg.vector_norm(pull.float())
        return norms

    def _terms(self) -> dict[str, Tensor]:
        ours = {"noise": self.noise, "region": self.region, "global": self.global_}
        return {**ours, **self.further}


def freeze(module: nn.Module) -> nn.Module:
    """Freeze a module: no gradients to its weights, evaluation mode.

    Gradients still flow through it to its inputs.
    """
    return module.requires_grad_(False).eval()


class RegionInContextObjective:
    """L_total = L_region + L_global + E||epsilon_theta - epsilon||^2 (Eq. 10).

    The VAE and both judges are frozen here, and stay on the device they are on.
    """

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny,
        region_encoder: RegionEncoder | None,
        scene_encoder: SceneEncoder | None,
        prediction_type: str,
        alphas_cumprod: Tensor,
        region_weight: float = 1,
        global_weight: float = 1,
        noise_weight: float = 1,
        noise_reduction: str = "mean",
        rules: AlignmentRules | None = None,
        further: Mapping[str, WeightedTerm] | None = None,
    ) -> None:
        """Freeze the VAE and the judges, and set the terms' weights.

        Args:
            vae: Decodes x0_hat: the pipeline's own `AutoencoderKL`, or an `AutoencoderTiny` for
                its latents, many times cheaper; frozen.
            region_encoder: Eq. 7's F; frozen. None switches the region loss off at no cost.
            scene_encoder: The scene judge; frozen. None switches the global loss off at no cost.
            prediction_type: What the UNet predicts: `epsilon`, `v_prediction` or `sample`.
            alphas_cumprod: alpha_bar of every step (1000,).
            region_weight: Factor of Eq. 8 in Eq. 10.
            global_weight: Factor of Eq. 9 in Eq. 10.
            noise_weight: Factor of the noise term in Eq. 10.
            noise_reduction: `mean` or `sum` over a sample's elements (choice 15).
            rules: Of the alignments; None: as the paper prints them.
            further: Terms beside the paper's three, by name; they cover the samples that
                `rules.below` leaves, with the alignments' weights.
        """
        for judge in (vae, region_encoder, scene_encoder):
            if judge is not None:
                freeze(judge)
        self.vae = vae
        self.region_encoder = region_encoder
        self.scene_encoder = scene_encoder
        self.prediction_type = prediction_type
        self.alphas_cumprod = alphas_cumprod
        self.region_weight = region_weight
        self.global_weight = global_weight
        self.noise_weight = noise_weight
        self.noise_reduction = noise_reduction
        self.rules = rules or AlignmentRules()
        self.further = dict(further or {})

    def __call__(
        self,
        prediction: Tensor,
        batch: NoisedBatch,
        batch_size: int,
        factors: Mapping[str, float] | None = None,
    ) -> Losses:
        """Compute the losses of the UNet's prediction for one batch.

        Args:
            prediction: The UNet's output (B, C, H, W).
            batch: The noised batch it belongs to.
            batch_size: The whole global batch these B samples are a part of.
            factors: Of `region` and `global` in the total, beside their weights (`balance`).

        Returns:
            Eq. 10 and its parts.

        Raises:
            RicError: A kept sample has no box, or one that is empty or leaves the image; a judge
                is on and the batch lacks its text embeddings.
        """
        device = prediction.device
        self.alphas_cumprod = self.alphas_cumprod.to(device)  # moves once
        alpha_bar_t = self.alphas_cumprod[batch.timesteps.to(device, non_blocking=True)]
        noise = self._noise(prediction, batch, alpha_bar_t, batch_size)  # Eq. 10, last term

        region_rows = self._judged_rows(self.region_encoder, batch.kept_region, batch.timesteps)
        scene_rows = self._judged_rows(self.scene_encoder, batch.kept_scene, batch.timesteps)
        further_rows = self.rules.rows_below(batch.timesteps) if self.further else []
        rows = sorted({*region_rows, *scene_rows, *further_rows})
        region = scene = _Alignment(torch.zeros_like(noise), torch.full_like(noise, torch.nan), 0)
        further = {name: torch.zeros_like(noise) for name in self.further}
        if rows:
            decoded = self._decode(rows, pick(prediction, rows), batch, alpha_bar_t)  # Eq. 5
            judged = self._augment(decoded, batch)
        if region_rows:
            region = self._align_regions(judged.of(region_rows), batch, batch_size)
        if scene_rows:
            scene = self._align_scenes(judged.of(scene_rows), batch, batch_size)
        if self.rules.agree:
            region, scene = (one.agreeing(noise, prediction) for one in (region, scene))
        if further_rows:
            further = self._further(decoded.of(further_rows), batch, batch_size)
        by = factors or {"region": 1.0, "global": 1.0}
        aligned = self.region_weight * by["region"] * region.loss
        aligned = aligned + self.global_weight * by["global"] * scene.loss
        beside = sum(self.further[name].weight * loss for name, loss in further.items())
        return Losses(
            total=aligned + self.noise_weight * noise + beside,  # Eq. 10
            noise=noise,
            region=region.loss,
            global_=scene.loss,
            region_cosine=region.cosine,
            scene_cosine=scene.cosine,
            region_count=region.samples,
            scene_count=scene.samples,
            prediction=prediction,
            further=further,
        )

    def _noise(
        self, prediction: Tensor, batch: NoisedBatch, alpha_bar_t: Tensor, batch_size: int
    ) -> Tensor:
        kind = self.prediction_type
        target = training_target(batch.clean_latents, batch.noise, alpha_bar_t, kind)
        reduction = self.noise_reduction
        return noise_loss(prediction, target, batch_size=batch_size, reduction=reduction)

    def _align_regions(self, shown: _Decoded, batch: NoisedBatch, batch_size: int) -> _Alignment:
        judge = self.region_encoder
        assert judge is not None  # else no row is judged
        boxes = _boxes(shown)
        if self.rules.region_gradient == "box":
            shown = shown._replace(pixels=gradient_near(shown.pixels, boxes))
        e_tr = _embeddings(batch.region_text_embeddings, shown.rows, "region")
        loss_of = partial(region_loss, ceiling=pick_some(batch.region_ceilings, shown.rows))
        embed = partial(judge.encode_region, boxes=boxes)  # Eqs. 6, 7
        return self._aligned(embed, e_tr, loss_of, shown, batch_size)  # Eq. 8

    def _align_scenes(self, shown: _Decoded, batch: NoisedBatch, batch_size: int) -> _Alignment:
        assert self.scene_encoder is not None  # else no row is judged
        e_tf = _embeddings(batch.scene_text_embeddings, shown.rows, "scene")
        loss_of = partial(global_loss, ceiling=pick_some(batch.scene_ceilings, shown.rows))
        embed = self.scene_encoder.encode_image
        return self._aligned(embed, e_tf, loss_of, shown, batch_size)  # Eq. 9

    def _aligned(
        self,
        embed: Callable[[Tensor], Tensor],
        text: Tensor,
        loss_of: Callable[..., Tensor],
        shown: _Decoded,
        batch_size: int,
    ) -> _Alignment:
        """Compute a judge's loss of pixels beside their texts (K, P), by the rules."""
        pixels = flattened(
            shown.pixels, lambda probe: -cosine(embed(probe), text), self.rules.flatten
        )
        visual = embed(pixels)
        loss = loss_of(visual, text, batch_size=batch_size, weights=self._weights(shown))
        return _Alignment(loss, cosine(visual, text).detach().mean(), len(shown.rows))

    def _further(self, shown: _Decoded, batch: NoisedBatch, batch_size: int) -> dict[str, Tensor]:
        weights, some = self._weights(shown), batch.of(shown.rows)
        return {
            name: share_of_batch(term(shown.pixels, some), None, batch_size, weights)
            for name, (_, term) in self.further.items()
        }

    def _judged_rows(
        self, judge: nn.Module | None, kept_B: Tensor, timesteps_B: Tensor
    ) -> list[int]:
        """List the rows that a judge scores: none where it is switched off (choices 6, 7)."""
        if judge is None:
            return []
        kept = kept_B.tolist()
        return [row for row in self.rules.rows_below(timesteps_B) if kept[row]]

    def _decode(
        self, rows: list[int], prediction: Tensor, batch: NoisedBatch, alpha_bar_t: Tensor
    ) -> _Decoded:
        """Decode x0_hat (K, C, H, W) to pixels, with gradient (Eq. 5, choice 2)."""
        noisy, alpha_bar_t = pick(batch.noisy, rows), pick(alpha_bar_t, rows)
        x0_hat = clean_from_prediction(
            at_least_float32(prediction), at_least_float32(noisy), alpha_bar_t, self.prediction_type
        )  # Eq. 5
        x0_hat = restored(x0_hat, pick(batch.clean_latents, rows), self.rules.restore)
        latents = x0_hat / self.vae.config.scaling_factor
        pixels = self.vae.decode(latents.to(self.vae.dtype)).sample
        shown = clamp_straight_through(at_least_float32(pixels))
        return _Decoded(rows, shown, alpha_bar_t, [batch.boxes[row] for row in rows])

    def _augment(self, decoded: _Decoded, batch: NoisedBatch) -> _Decoded:
        """Shift and noise what the judges see, where the rules say so."""
        if not self.rules.augment:
            return decoded
        assert batch.shifts is not None
        assert batch.pixel_seeds is not None
        pixels, boxes = augmented(
            decoded.pixels,
            decoded.boxes,
            batch.shifts[decoded.rows],
            [batch.pixel_seeds[row] for row in decoded.rows],
        )
        return decoded._replace(pixels=pixels, boxes=boxes)

    def _weights(self, shown: _Decoded) -> Tensor | None:
        """Return each sample's alignment weight; None: all are 1."""
        steps = len(self.alphas_cumprod)
        return self.rules.weights(shown.alpha_bar, self.prediction_type, steps)


def _boxes(shown: _Decoded) -> list[Box]:
    """Return the boxes of the kept samples (raises RicError where one has none)."""
    picked = []
    for row, box in zip(shown.rows, shown.boxes, strict=True):
        if box is None:
            raise RicError(
                f"Sample {row} of the batch is kept for the region loss but has no box.",
                "Set kept_region to False where a sample has no mask.",
            )
        picked.append(box)
    return picked


def _embeddings(embeddings: Tensor | None, rows: list[int], name: str) -> Tensor:
    """Pick the kept samples' text embeddings (raises RicError where there are none at all)."""
    if embeddings is None:
        raise RicError(
            f"The {name} encoder is on, but the batch has no {name}_text_embeddings.",
            f"Encode the batch's texts, or build the objective without a {name} encoder.",
        )
    return pick(embeddings, rows)
