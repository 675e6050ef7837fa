"""The losses: two alignments, the noise term and the contrastive fit (Eqs. 8 to 11).

Choice 6, what a batch's loss is divided by: samples whose text or source was dropped, or that have
no text, are left out of the two alignment losses. The sum over the kept ones is divided by the
*whole* global batch, never by the number kept. Where none is kept, the loss is simply 0, and
micro-batches and processes add up to exactly what one large batch gives. `noise_loss` takes the
same `batch_size` for the same reason.

Every loss is reduced in float32 (float64 stays float64), even under the caller's autocast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Shape letters: B batch, N image-text pairs, P embedding width, Q the scene judge's width.


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision to float32; leave float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def cosine(visual: Tensor, text: Tensor) -> Tensor:
    """Compute cos(visual, text) of each row, in [-1, 1] (the fraction of Eqs. 8 and 9).

    Args:
        visual: (B, P), of any norm.
        text: (B, P), of any norm.

    Returns:
        (B,), float32 or wider.
    """
    return functional.cosine_similarity(at_least_float32(visual), at_least_float32(text), dim=-1)


def region_loss(
    f_r: Tensor,
    e_tr: Tensor,
    *,
    kept: Tensor | None = None,
    batch_size: int | None = None,
    weights: Tensor | None = None,
    ceiling: Tensor | None = None,
) -> Tensor:
    """Measure how far the regions are from their descriptions: 1 - cos (Eq. 8).

    Args:
        f_r: The gated-fused region embeddings (B, P).
        e_tr: The region texts' embeddings (B, P).
        kept: (B,), bool or 0 to 1: the samples that count; None keeps all (choice 6).
        batch_size: What the sum is divided by: the whole global batch; None: B.
        weights: (B,), a factor for each sample, such as alpha_bar_t (choice 7); None: 1.
        ceiling: (B,), cosines above which a sample's loss is 0 (choice 16); None: 1.

    Returns:
        A scalar, float32 or wider.
    """
    distance_B = _distance(f_r, e_tr, ceiling)  # Eq. 8
    return share_of_batch(distance_B, kept, batch_size, weights)


def global_loss(
    e_f: Tensor,
    e_tf: Tensor,
    *,
    kept: Tensor | None = None,
    batch_size: int | None = None,
    weights: Tensor | None = None,
    ceiling: Tensor | None = None,
) -> Tensor:
    """Measure how far the whole images are from their scene descriptions: 1 - cos (Eq. 9).

    Args:
        e_f: The images' embeddings (B, Q), BLIP's.
        e_tf: The scene texts' embeddings (B, Q).
        kept: (B,), bool or 0 to 1: the samples that count; None keeps all (choice 6).
        batch_size: What the sum is divided by: the whole global batch; None: B.
        weights: (B,), a factor for each sample, such as alpha_bar_t (choice 7); None: 1.
        ceiling: (B,), cosines above which a sample's loss is 0 (choice 16); None: 1.

    Returns:
        A scalar, float32 or wider.
    """
    distance_B = _distance(e_f, e_tf, ceiling)  # Eq. 9
    return share_of_batch(distance_B, kept, batch_size, weights)


def _distance(visual: Tensor, text: Tensor, ceiling: Tensor | None) -> Tensor:
    """Return 1 - cos (B,), or with a ceiling how far cos lies below it."""
    cosine_B = cosine(visual, text)
    return 1 - cosine_B if ceiling is None else (ceiling.to(cosine_B) - cosine_B).relu()


def share_of_batch(
    loss_B: Tensor, kept: Tensor | None, batch_size: int | None, weights: Tensor | None
) -> Tensor:
    """Sum the kept samples' losses and divide by the whole batch (choice 6)."""
    whole = batch_size or len(loss_B)
    if weights is not None:
        loss_B = loss_B * weights.to(loss_B)
    if kept is not None:
        # where, not a product: a dropped sample may hold a NaN, and 0 times NaN is NaN
        factor_B = kept.to(loss_B)
        loss_B = torch.where(factor_B != 0, loss_B * factor_B, torch.zeros_like(loss_B))
    return loss_B.sum() / whole


def noise_loss(
    prediction: Tensor, target: Tensor, *, batch_size: int | None = None, reduction: str = "mean"
) -> Tensor:
    """Compute the squared error of the UNet's prediction (Eq. 10's last term).

    Choice 15: Eq. 10 prints a squared norm, which is a sum over the elements of a sample: 4,096
    times their mean at 256 px. Every implementation of the noise loss takes the mean.

    Args:
        prediction: (B, C, H, W).
        target: (B, C, H, W), from `training_target`.
        batch_size: The whole global batch where these B samples are a part of it; None: B.
        reduction: `mean` or `sum` over the elements of a sample.

    Returns:
        A scalar, float32 or wider: the mean over samples times B / batch_size.
    """
    error = functional.mse_loss(at_least_float32(prediction), at_least_float32(target))
    if reduction == "sum":
        error = error * prediction[0].numel()
    return error if batch_size is None else error * (len(prediction) / batch_size)


def same_text_mask(texts: Sequence[str]) -> Tensor:
    """Tell which pairs of a batch share their text: (N, N) bool, the diagonal included."""
    numbers = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    ids_N = torch.tensor([numbers[text] for text in texts])
    return ids_N[:, None] == ids_N[None, :]


class Negative(NamedTuple):
    """One further negative for each pair of a batch.

    Attributes:
        rows: Their embeddings (N, P), of any norm.
        counts: (N,) bool, the pairs whose negative counts; None: all.
    """

    rows: Tensor
    counts: Tensor | None = None

    def logits(self, own: Tensor, temperature: Tensor | float) -> Tensor:
        """Compare each with its pair's unit vector (N, P): (N, 1), -inf where it does not count."""
        rows_NP = functional.normalize(at_least_float32(self.rows), dim=-1)
        own_N1 = (own * rows_NP).sum(dim=-1, keepdim=True) / temperature
        if self.counts is None:
            return own_N1
        return own_N1.masked_fill(~self.counts.to(own_N1.device)[:, None], -torch.inf)


def symmetric_contrastive_loss(
    visual: Tensor,
    text: Tensor,
    temperature: Tensor | float,
    *,
    same_text: Tensor | None = None,
    negative: Negative | None = None,
    wrong_text: Negative | None = None,
) -> Tensor:
    """Pull matching image-text pairs together and push the others apart (Sec. 3.2.1, Eq. 11).

    Args:
        visual: z (N, P), of any norm: normalised here.
        text: t (N, P), of any norm: normalised here.
        temperature: tau, above 0.
        same_text: (N, N) bool, True where two pairs have the same text: such pairs are not
            negatives of each other and are left out of both sums. The diagonal always counts.
            None: Eq. 11 as printed.
        negative: A further picture for each pair, such as that before its edit: a negative of its
            own text. Not of other texts: it may well match one of them, as in a chain of edits.
            None: Eq. 11 as printed.
        wrong_text: A further text for each pair: a negative of its own picture. None: as printed.

    Returns:
        A scalar, float32 or wider.
    """
    # the product of embeddings would otherwise run in half precision under autocast
    with torch.autocast(visual.device.type, enabled=False):
        z_NP = functional.normalize(at_least_float32(visual), dim=-1)
        t_NP = functional.normalize(at_least_float32(text), dim=-1)
        logits_NN = z_NP @ t_NP.T / temperature
        pairs_N = torch.arange(len(logits_NN), device=logits_NN.device)
        if same_text is not None:
            repeated_NN = same_text.to(logits_NN.device, torch.bool).clone().fill_diagonal_(False)
            logits_NN = logits_NN.masked_fill(repeated_NN, -torch.inf)
        of_image_NK, of_text_NK = logits_NN, logits_NN.T
        if wrong_text is not None:
            of_image_NK = torch.cat([of_image_NK, wrong_text.logits(z_NP, temperature)], dim=1)
        if negative is not None:
            of_text_NK = torch.cat([of_text_NK, negative.logits(t_NP, temperature)], dim=1)
        image_to_text = functional.cross_entropy(of_image_NK, pairs_N)  # Eq. 11, first line
        text_to_image = functional.cross_entropy(of_text_NK, pairs_N)  # Eq. 11, second line
        return (image_to_text + text_to_image) / 2  # Eq. 11
