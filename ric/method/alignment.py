"""The alignment of x0_hat with texts: what the judges see, and each sample's weight (Eqs. 8, 9).

Choice 7, timesteps: the paper aligns at every t, though x0_hat means little at large ones.
`below` leaves out samples with t at or above it. t is uniform, so that share of the batch is
expected to be aligned, and the alignment is divided by it: the losses are means over the aligned
samples, not smaller ones. `weight` makes each sample's loss depend on t: `alpha-bar` by
alpha_bar_t, `one-minus-alpha-bar` by 1 - alpha_bar_t, `jacobian` by 1 / max(1, J), where J is the
factor by which Eq. 5 magnifies an error of the prediction: sqrt((1 - alpha_bar_t) / alpha_bar_t)
for epsilon, which is 14.6 at t = 999.

Choice 18, remedies against reward hacking (judges that are pleased without the edit), all off by
default and none in the paper:

- `restore` S judges S x_0 + (1 - S) x0_hat, which is Eq. 5 with the share S of the known noise put
  back, so that a judge sees a whole picture at every t (SRPO, arXiv 2509.06942).
- `flatten` RHO judges the pixels after one adversarial step of that length, down its own score's
  gradient, so that a narrow peak of the score is worth little (RSA-FT).
- `augment` judges the pixels shifted by up to 1/16 of the side and noised, differently each time.
- `agree` lets a loss pull only at those elements of the UNet's output where its gradient has the
  sign of the noise term's, so that a judge can hurry a step towards the target and not lead away
  from it (gradient surgery, as PCGrad, arXiv 2001.06782, but by element).
- `region_gradient="box"` lets the region loss change pixels near the box only; the judge still sees
  the whole picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ric.errors import RicError
from ric.method.denoising import error_gain
from ric.method.region_box import Box

# Shape letters: K judged samples, H and W pixel height and width.

# from alpha_bar_t (K,) and the prediction type to each sample's weight (K,)
WEIGHTS: dict[str, Callable[[Tensor, str], Tensor]] = {
    "none": lambda alpha_bar, kind: torch.ones_like(alpha_bar),
    "alpha-bar": lambda alpha_bar, kind: alpha_bar,
    "one-minus-alpha-bar": lambda alpha_bar, kind: 1 - alpha_bar,
    "jacobian": lambda alpha_bar, kind: 1 / error_gain(alpha_bar, kind).clamp(min=1),
}
REACH = 1 / 16  # of the side: the longest shift, and the margin of a box's gradient
PIXEL_NOISE = 0.05  # standard deviation, of pixels in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class AlignmentRules:
    """The rules of choices 7 and 18; see the module.

    Attributes:
        below: Align only samples with t below it; None: every t.
        weight: One of `WEIGHTS`.
        restore: S, 0 to less than 1.
        flatten: RHO, the root mean square of the adversarial step, of pixels in [-1, 1].
        augment: Whether pixels are shifted and noised.
        agree: Whether losses pull only where the noise term pulls in the same direction.
        region_gradient: `all` or `box`.

    Raises:
        RicError: `weight` is none of `WEIGHTS`.
    """

    below: int | None = None
    weight: str = "none"
    restore: float = 0.0
    flatten: float = 0.0
    augment: bool = False
    agree: bool = False
    region_gradient: str = "all"

    def __post_init__(self) -> None:
        """Refuse an unknown weight."""
        if self.weight not in WEIGHTS:
            known = ", ".join(WEIGHTS)
            raise RicError(f"align_weight is {self.weight!r}.", f"Choose one of: {known}.")

    def rows_below(self, timesteps_B: Tensor) -> list[int]:
        """List the rows whose t is low enough to be aligned."""
        if self.below is None:
            return list(range(len(timesteps_B)))
        return [row for row, t in enumerate(timesteps_B.tolist()) if t < self.below]

    def weights(self, alpha_bar_K: Tensor, prediction_type: str, steps: int) -> Tensor | None:
        """Return each sample's factor (K,); None: all are 1.

        Args:
            alpha_bar_K: alpha_bar_t of each sample.
            prediction_type: What the UNet predicts.
            steps: The number of timesteps, from which t was drawn uniformly.
        """
        if self.weight == "none" and self.below is None:
            return None
        each = WEIGHTS[self.weight](alpha_bar_K, prediction_type)
        aligned = steps if self.below is None else min(self.below, steps)
        return each * (steps / aligned)


def restored(x0_hat: Tensor, clean: Tensor, share: float) -> Tensor:
    """Put a share of the known noise back into x0_hat.

    Since x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, Eq. 5 with the noise
    S epsilon + (1 - S) epsilon_theta gives S x_0 + (1 - S) x0_hat.

    Args:
        x0_hat: (K, C, h, w).
        clean: x_0 (K, C, h, w).
        share: S.
    """
    return x0_hat if share == 0 else share * clean + (1 - share) * x0_hat


def flattened(pixels: Tensor, distance: Callable[[Tensor], Tensor], rho: float) -> Tensor:
    """Move pixels by one step in the direction in which a judge's distance grows fastest.

    The step is a constant: gradients pass to `pixels` unchanged.

    Args:
        pixels: (K, 3, H, W) in [-1, 1].
        distance: From pixels to each sample's 1 - cos (K,).
        rho: Each sample's step has this root mean square.
    """
    if rho == 0:
        return pixels
    with torch.enable_grad():
        probe = pixels.detach().requires_grad_()
        (pull,) = torch.autograd.grad(distance(probe).sum(), probe)
    length = pull.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return pixels + rho * pull / length.clamp(min=torch.finfo(pull.dtype).tiny)


def agreeing(loss: Tensor, noise: Tensor, prediction: Tensor) -> Tensor:
    """Return a loss of the same value that pulls only where the noise term pulls likewise.

    Args:
        loss: A scalar, with gradient to `prediction`.
        noise: The noise term, a scalar with gradient to `prediction`.
        prediction: The UNet's output (B, C, H, W).

    Returns:
        A scalar. Its gradient at the prediction is `loss`'s, with 0 at the elements where the two
        gradients differ in sign.
    """
    if not loss.requires_grad:
        return loss  # no sample is aligned
    # both judges see one decoded picture: its graph is needed again
    (pull,) = torch.autograd.grad(loss, prediction, retain_graph=True)
    (towards,) = torch.autograd.grad(noise, prediction, retain_graph=True)
    kept = torch.where(pull * towards > 0, pull, 0)
    return loss.detach() + ((prediction - prediction.detach()) * kept).sum()


def augmented(
    pixels: Tensor, boxes: Sequence[Box | None], draws: Tensor, seeds: Sequence[int]
) -> tuple[Tensor, list[Box | None]]:
    """Shift and noise pixels; what a shift uncovers is reflected.

    Args:
        pixels: (K, 3, H, W) in [-1, 1].
        boxes: Each sample's box, which is never shifted out of the picture, or None.
        draws: (K, 2) in [-1, 1], on the CPU: the shifts across and down, as shares of `REACH`.
        seeds: Seeds each sample's noise.

    Returns:
        The pixels (K, 3, H, W), with gradient, and the shifted boxes.
    """
    height, width = pixels.shape[-2:]
    reach_x, reach_y = int(width * REACH), int(height * REACH)
    wide = functional.pad(pixels, (reach_x, reach_x, reach_y, reach_y), mode="reflect")
    seen, moved = [], []
    for row, (box, (across, down)) in enumerate(zip(boxes, draws.tolist(), strict=True)):
        x_min, y_min, x_max, y_max = box or (reach_x, reach_y, width - reach_x, height - reach_y)
        dx = min(max(round(across * reach_x), x_max - width), x_min)
        dy = min(max(round(down * reach_y), y_max - height), y_min)
        top, left = reach_y + dy, reach_x + dx
        cut = wide[row, :, top : top + height, left : left + width]
        generator = torch.Generator().manual_seed(seeds[row])
        noise = torch.randn(cut.shape, generator=generator).to(cut)
        seen.append(cut + PIXEL_NOISE * noise)
        moved.append(box and (x_min - dx, y_min - dy, x_max - dx, y_max - dy))
    return torch.stack(seen), moved


def gradient_near(pixels: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Return the same pixels, which pass a gradient only within each box and `REACH` around it.

    Args:
        pixels: (K, 3, H, W).
        boxes: K boxes.
    """
    height, width = pixels.shape[-2:]
    near = torch.zeros(len(boxes), 1, height, width, dtype=torch.bool, device=pixels.device)
    for row, (x_min, y_min, x_max, y_max) in enumerate(boxes):
        left, top = max(x_min - int(width * REACH), 0), max(y_min - int(height * REACH), 0)
        right, bottom = x_max + int(width * REACH), y_max + int(height * REACH)
        near[row, :, top:bottom, left:right] = True
    return torch.where(near, pixels, pixels.detach())
