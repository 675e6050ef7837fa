"""A UNet that copies its source from the first step on: only the edit is left to learn.

Most of a picture stays as it is, and the latents to copy are among the UNet's input. Yet a group
norm divides them by their own spread before the last convolution, and the gain with which v needs
them depends on t: after a quarter of a million samples the copy was still the largest part of the
error. Let the clean latents be x0 = c + d, with source c and a change d of variance s^2. The best
linear guess of x0 from z = alpha x0 + sigma noise and c is c + k (z - alpha c), with
k = alpha s^2 / (alpha^2 s^2 + sigma^2), which in v reads

    v = a z - b c,   a = (alpha - k) / sigma,   b = (1 - k alpha) / sigma.

(The same preconditioning as in Karras et al. 2022, with a source.) `start_as_copy` writes weights
into a UNet with which it predicts this v, up to a few per cent, and everything that it has learnt
adds to it from zero. The class stays diffusers' own:

1. A group of `conv_in`'s channels passes z and c on, unchanged.
2. The last residual block's shortcut brings them to two groups of its output. Beside them stand
   channels +A(t) and -A(t), much larger than they are, so that the group norm divides by A(t) and
   not by the picture's own spread. A(t) is proportional to 1/a and 1/b. It comes out of the block's
   time embedding, fitted by least squares, through a hidden group of its own.
3. An offset keeps SiLU in its linear range; the last convolution takes it off again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import silu

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor

CHANGE = 0.04  # s^2, the variance of an edit over all of the latents, which have about 1
ANCHOR = 10.0  # how much larger than the latents the channels beside them are, at a gain of 1
OFFSET = 6.0  # SiLU(6 + y) = 6 + y to 0.01 for y > -1
LARGEST = 1.2  # of A(t) as it leaves the hidden group; two of them must stay below sqrt(2)
ANCHOR_GAIN = 0.5  # of the group norm, for the channels +A and -A


def copying_gains(alpha_bar: Tensor, change: float = CHANGE) -> tuple[Tensor, Tensor]:
    """Return a and b of every t, each (T,), bounded from below by 0.1 and 0.5.

    Args:
        alpha_bar: alpha_bar_t (T,).
        change: s^2, the variance of the edit.
    """
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    k = alpha * change / (alpha_bar * change + sigma**2)
    return ((alpha - k) / sigma).clamp(min=0.1), ((1 - k * alpha) / sigma).clamp(min=0.5)


@torch.no_grad()
def start_as_copy(unet: UNet2DConditionModel, alpha_bar: Tensor) -> None:
    """Make an editor's UNet predict v = a z - b c; see the module.

    It changes one group of `conv_in`'s channels, one hidden and two output groups of the last
    residual block, and all of `conv_out`.

    Args:
        unet: An 8-channel UNet of 4-channel latents, whose last group norms have groups of 8.
        alpha_bar: alpha_bar_t of every t (T,).

    Raises:
        ValueError: its channels or groups are others.
    """
    last, norm = unet.up_blocks[-1].resnets[-1], unet.conv_norm_out
    width = last.conv2.out_channels
    if unet.config.in_channels != 8 or width // norm.num_groups != 8 or width < 32:
        raise ValueError("start_as_copy needs 8 input channels and groups of 8 channels.")
    # the skip connection from conv_in comes last among the block's input channels
    passed, hidden = slice(width - 8, width), slice(width - 8, width)
    skipped = last.conv1.in_channels - 8
    groups = {0: slice(width - 16, width - 8), 1: slice(width - 8, width)}  # for z, for c

    for weight in (unet.conv_in.weight, unet.conv_in.bias):
        weight[passed] = 0
    unet.conv_in.weight[passed, :, 1, 1] = torch.eye(8)

    anchors = {n: ANCHOR / gain for n, gain in enumerate(copying_gains(alpha_bar))}
    shares = {n: LARGEST / float(anchor.max()) for n, anchor in anchors.items()}
    _write_anchors(unet, hidden, {n: shares[n] * anchor for n, anchor in anchors.items()})

    unet.conv_out.weight.zero_()
    unet.conv_out.bias.zero_()
    gain = ANCHOR / 2**1.5  # halves the latents, since the anchors' spread is A / sqrt(2)
    for n, group in groups.items():
        for weight in (last.conv2.weight, last.conv2.bias,
                       last.conv_shortcut.weight, last.conv_shortcut.bias):  # fmt: skip
            weight[group] = 0
        latents, beside = slice(group.start, group.start + 4), slice(group.start + 4, group.stop)
        last.conv_shortcut.weight[latents, skipped + 4 * n : skipped + 4 * n + 4, 0, 0] = torch.eye(
            4
        )
        signs = torch.tensor([1.0, -1.0, 1.0, -1.0]) / shares[n]
        plus = hidden.start + 2 + 2 * n
        last.conv2.weight[beside, plus, 1, 1] = signs
        last.conv2.weight[beside, plus + 1, 1, 1] = -signs
        norm.weight[latents], norm.weight[beside] = gain, ANCHOR_GAIN
        norm.bias[group] = OFFSET
        # 2 undoes the halving; the mean of the channels beside gives back the group's own mean
        sign = 1 if n == 0 else -1
        unet.conv_out.weight[:, latents, 1, 1] = 2 * sign * torch.eye(4)
        unet.conv_out.weight[:, beside, 1, 1] = -2 * sign * gain / ANCHOR_GAIN / 4
        seen = silu(OFFSET + ANCHOR_GAIN * 2**0.5 * torch.tensor([1.0, -1.0])).mean()
        unet.conv_out.bias -= sign * 2 * (silu(torch.tensor(OFFSET)) - gain / ANCHOR_GAIN * seen)


def _write_anchors(unet: UNet2DConditionModel, hidden: slice, wanted: dict[int, Tensor]) -> None:
    """Make a hidden group of the last block hold +-wanted(t), behind its norm and before SiLU.

    Its channels are 1, -1, +u0, -u0, +u1, -u1, 0, 0. The norm divides by the root of their mean
    square S, so u = wanted sqrt(S), where S = 1 / (4 - wanted0^2 - wanted1^2). Since
    SiLU(y) - SiLU(-y) = y, the convolution behind it takes differences of pairs.
    """
    last = unet.up_blocks[-1].resnets[-1]
    for weight in (last.conv1.weight, last.conv1.bias, last.norm2.bias,
                   last.time_emb_proj.weight, last.time_emb_proj.bias):  # fmt: skip
        weight[hidden] = 0
    last.norm2.weight[hidden] = 1
    first = hidden.start
    last.conv1.bias[first], last.conv1.bias[first + 1] = 1, -1
    times = torch.arange(len(wanted[0]), device=last.conv1.weight.device)
    features = silu(unet.time_embedding(unet.time_proj(times).to(last.conv1.weight.dtype)))
    features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1).double().cpu()
    shares = torch.stack([share.double().cpu() for share in wanted.values()])
    squares = 1 / (4 - shares.square().sum(0))
    for n, share in enumerate(shares):
        # least squares of relative errors, with a little ridge
        scaled = features / (share * squares.sqrt())[:, None]
        gram = scaled.T @ scaled + 1e-3 * torch.eye(scaled.shape[1], dtype=torch.double)
        found = torch.linalg.solve(gram, scaled.sum(0)).to(last.conv1.weight)
        for channel, sign in ((first + 2 + 2 * n, 1), (first + 3 + 2 * n, -1)):
            last.time_emb_proj.weight[channel] = sign * found[:-1]
            last.time_emb_proj.bias[channel] = sign * found[-1]
