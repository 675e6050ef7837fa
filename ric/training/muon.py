"""Muon for matrices and convolutions, AdamW for the rest: `ric tiny --optimizer muon`.

Muon (Jordan et al. 2024) replaces a matrix's momentum by the nearest matrix whose singular values
are all equal. A convolution's weights count as a matrix (out, in x height x width), a view of the
same memory. Updates are scaled to the size of AdamW's, so both share one learning rate.
Embeddings (that of t, too), biases, norms and the first and last convolution stay with AdamW, as
Muon's authors advise.

`torch.optim.Muon` always computes in bfloat16. A CPU without bfloat16 instructions emulates them,
and more than half of a training step went there; so the 20 lines are written out here, in the
number format that the device computes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ric.device import computes_in_bf16
from ric.runs.checkpoints import optimizer_tensors, restore_optimizer
from ric.training.optimizer import MOST_IN_A_ROW, GuardedAdamW

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ric.runs.checkpoints import Tensors

COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of the quintic iteration (Jordan et al. 2024)
ITERATIONS = 5
MOMENTUM = 0.95  # Nesterov's
BY_ADAMW = ("embedding", "conv_in", "conv_out")  # parts of the names of weights AdamW updates


class GuardedMuon:
    """Muon and AdamW with clipping; both skip a step whose loss or gradient is not finite.

    The host decides whether to skip, so each step on a GPU synchronises with it.

    Args:
        named: The trained weights by name; all on one device, each contiguous or channels_last.
        lr: Learning rate of both.
        weight_decay: Decoupled weight decay of both.
        max_grad_norm: All gradients together are scaled down to this norm.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        max_grad_norm: float,
    ) -> None:
        """Divide the weights between the two; see the class."""
        self._matrices = {
            name: weight
            for name, weight in named.items()
            if weight.ndim >= 2 and not any(part in name for part in BY_ADAMW)
        }
        self._flat = {
            name: nn.Parameter(flattened(weight.detach()))
            for name, weight in self._matrices.items()
        }
        self._muon = Muon(self._flat.values(), lr=lr, weight_decay=weight_decay)
        others = [weight for name, weight in named.items() if name not in self._matrices]
        self._adamw = GuardedAdamW(others, lr=lr, weight_decay=weight_decay)
        self._all = list(named.values())
        self._max_grad_norm = max_grad_norm

    def set_rate(self, lr: float) -> None:
        """Use another learning rate from the next step on."""
        self._adamw.set_rate(lr)
        for group in self._muon.param_groups:
            group["lr"] = lr

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Update the weights from their gradients and clear these.

        Returns:
            The gradients' norm before clipping.
        """
        norm = nn.utils.clip_grad_norm_(self._all, self._max_grad_norm)
        finite = torch.isfinite(norm) & torch.isfinite(loss.detach())
        if finite:
            for name, weight in self._matrices.items():
                self._flat[name].grad = None if weight.grad is None else flattened(weight.grad)
            self._muon.step()
        for name, weight in self._matrices.items():
            weight.grad = self._flat[name].grad = None
        # AdamW skips, and counts, a step whose loss is not finite
        self._adamw.step(torch.where(finite, loss.detach(), torch.nan))
        return norm

    def check(self, steps: int = MOST_IN_A_ROW) -> int:
        """Return the steps skipped so far; see `GuardedAdamW.check`."""
        return self._adamw.check(steps)

    def tensors(self, named: Mapping[str, nn.Parameter]) -> Tensors:
        """Return both optimizers' state for a checkpoint."""
        return self._adamw.tensors(named) | optimizer_tensors(self._flat.items(), self._muon)

    def restore(self, named: Mapping[str, nn.Parameter], tensors: Tensors) -> None:
        """Restore the state that `tensors` returned."""
        momenta = {key: value for key, value in tensors.items() if key.endswith(":momentum_buffer")}
        rest = {key: value for key, value in tensors.items() if key not in momenta}
        others = {name: weight for name, weight in named.items() if name not in self._matrices}
        self._adamw.restore(others, rest)
        restore_optimizer(self._flat.items(), self._muon, momenta)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum, for matrices; `torch.optim.Muon` but for the number format.

    Args:
        matrices: The trained weights, each (rows, columns).
        lr: Learning rate, on the scale of AdamW's: an update's root mean square is 0.2 lr
            (Liu et al. 2025).
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        """Hold the weights; see the class."""
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonalized(matrix.grad.lerp(momentum, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """Bring all singular values of a matrix (rows, columns) to between about 0.7 and 1.2.

    Five Newton-Schulz iterations, in bfloat16 where the device has it.

    Returns:
        A matrix of the same shape and type.
    """
    a, b, c = COEFFICIENTS
    dtype = torch.bfloat16 if computes_in_bf16(matrix.device) else torch.float32
    wide = matrix.shape[0] <= matrix.shape[1]
    found = (matrix if wide else matrix.T).to(dtype)
    found = found / found.norm().clamp(min=1e-7)  # now no singular value is above 1
    for _ in range(ITERATIONS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return (found if wide else found.T).to(matrix.dtype)


def flattened(weight: torch.Tensor) -> torch.Tensor:
    """View a weight (out, in, ...) as a matrix (out, the rest), in memory order.

    Muon treats all columns alike, so their order does not matter as long as it stays the same.
    """
    if weight.ndim == 4 and not weight.is_contiguous():
        weight = weight.permute(0, 2, 3, 1)  # channels_last
    return weight.flatten(1)
