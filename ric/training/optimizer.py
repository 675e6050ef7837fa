"""AdamW that skips steps that are not finite: decided on the device, without synchronising.

The fused kernel reads `found_inf` and leaves weights, moments and step counts alone when it is 1.
bitsandbytes' 8-bit kernels do not read it, so there the host decides, and waits for the device.
Skipped steps are counted on the device, and the counts are read only when something is logged; ten
in a row end the run. A checkpoint holds how many were skipped, not how many in a row: a skipped
step leaves no trace, so a resumed run has ten tries again.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch

from ric.errors import RicError
from ric.extras import require_extra
from ric.runs.checkpoints import optimizer_tensors, restore_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ric.runs.checkpoints import Tensors

MOST_IN_A_ROW = 10
SKIPPED = "guard:counts"  # beside the moments; no parameter is named "guard"


class GuardedAdamW:
    """Fused AdamW with clipping that skips a step whose loss or gradient is not finite."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-2,
        max_grad_norm: float | None = None,
        eight_bit: bool = False,
    ) -> None:
        """Build the AdamW of these parameters.

        Args:
            parameters: What is trained; all on one device.
            lr: Learning rate (choice 8: constant); `set_rate` changes it.
            betas: AdamW's betas.
            weight_decay: AdamW's decoupled weight decay.
            max_grad_norm: Gradients are scaled down to this norm; None: no clipping.
            eight_bit: Store the moments of all but small tensors in 8 bits, with bitsandbytes.

        Raises:
            RicError: `eight_bit` is set and bitsandbytes is not installed.
        """
        self.parameters = list(parameters)
        self.eight_bit = eight_bit
        kind = _eight_bit_adamw() if eight_bit else partial(torch.optim.AdamW, fused=True)
        self.optimizer = kind(self.parameters, lr=lr, betas=betas, weight_decay=weight_decay)
        self.max_grad_norm = float("inf") if max_grad_norm is None else max_grad_norm
        # skipped steps: in a row until now, the longest row, all
        self._counts = torch.zeros(3, device=self.parameters[0].device)

    def set_rate(self, lr: float) -> None:
        """Use another learning rate from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Update the weights from their gradients and clear these.

        Returns:
            The gradients' norm before clipping, on the device.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        bad = (~(torch.isfinite(norm) & torch.isfinite(loss.detach()))).float()
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        if not self.eight_bit or not bad:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        in_a_row, longest, skipped = self._counts
        in_a_row = (in_a_row + 1) * bad
        self._counts = torch.stack([in_a_row, torch.maximum(longest, in_a_row), skipped + bad])
        return norm

    def check(self, steps: int = MOST_IN_A_ROW) -> int:
        """Read the counts (this waits for the device) and return the steps skipped so far.

        Args:
            steps: How many steps a finished phase took: with fewer than ten, that many in a row
                are an error.

        Raises:
            RicError: the loss or a gradient was not finite in min(steps, 10) steps in a row.
        """
        _, longest, skipped = self._counts.tolist()
        most = min(steps, MOST_IN_A_ROW)
        if longest >= most:
            raise RicError(
                f"The loss was not finite in {most} steps in a row; the run stops.",
                "The last checkpoint is kept. Try a lower --lr, or --dtype fp32.",
            )
        return int(skipped)

    def tensors(self, named: Mapping[str, torch.nn.Parameter]) -> Tensors:
        """Return the state for a checkpoint: moments and step counts by name, skipped steps."""
        moments = optimizer_tensors(named.items(), self.optimizer)
        return {**moments, SKIPPED: self._counts[2:]}

    def restore(self, named: Mapping[str, torch.nn.Parameter], tensors: Tensors) -> None:
        """Restore the state that `tensors` returned; the count in a row starts over.

        Raises:
            RicError: the checkpoint's moments are in 8 bits and this AdamW's are not, or vice
                versa.
        """
        moments = [name for name in tensors if name != SKIPPED]
        in_8_bits = any(name.endswith(":state1") for name in moments)
        if moments and in_8_bits != self.eight_bit:
            raise RicError(
                "Either the checkpoint's moments or this AdamW's are in 8 bits, but not both.",
                "Keep --adam-8bit as it was, or begin a new run.",
            )
        if self.eight_bit:
            for place, parameter in enumerate(self.parameters):
                # its tables of 8-bit values are rebuilt, not read
                self.optimizer.init_state(  # type: ignore[attr-defined]
                    self.optimizer.param_groups[0], parameter, 0, place
                )
        restore_optimizer(named.items(), self.optimizer, tensors)
        self._counts = torch.zeros_like(self._counts)
        self._counts[2] = tensors[SKIPPED][-1]


def _eight_bit_adamw() -> Callable[..., torch.optim.Optimizer]:
    require_extra("bitsandbytes", "--adam-8bit")
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit


def finite_or_none(row: Mapping[str, float]) -> dict[str, float | None]:
    """Replace values that are not finite by None: JSON has no NaN."""
    return {key: value if math.isfinite(value) else None for key, value in row.items()}
