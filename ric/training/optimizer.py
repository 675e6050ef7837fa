"""AdamW that steps over a NaN: decided on the device, so that no step waits for the host.

The fused kernel reads `found_inf` and leaves weights, moments and step counts alone when it is 1.
bitsandbytes' 8-bit kernels know nothing of it and wait for the device of themselves: there the
host decides. How many steps were skipped is counted on the device and read only when something is
logged; ten in a row end the run. A checkpoint keeps how many were skipped, not how many in a row:
skipped steps leave nothing bad behind, so a resumed run has ten tries again.
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
        """Keep what is trained.

        Args:
            parameters: What is trained; all on one device.
            lr: Learning rate, constant (choice 8: no schedule, no warm-up).
            betas: AdamW's betas.
            weight_decay: AdamW's decoupled weight decay.
            max_grad_norm: Gradients are scaled down to this norm; None leaves them.
            eight_bit: Keep the moments of all but small tensors in 8 bits, by bitsandbytes.

        Raises:
            RicError: bitsandbytes is asked for and not installed.
        """
        self.parameters = list(parameters)
        self.eight_bit = eight_bit
        kind = _eight_bit_adamw() if eight_bit else partial(torch.optim.AdamW, fused=True)
        self.optimizer = kind(self.parameters, lr=lr, betas=betas, weight_decay=weight_decay)
        self.max_grad_norm = float("inf") if max_grad_norm is None else max_grad_norm
        # skipped in a row until now, the most in a row, all of them
        self._counts = torch.zeros(3, device=self.parameters[0].device)

    def set_rate(self, lr: float) -> None:
        """Use another learning rate from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Update from the gradients that are there and clear them.

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
            steps: How many there were, where there will be no more: fewer than ten may all be bad.

        Raises:
            RicError: ten steps in a row, or all that there were, had no finite loss.
        """
        _, longest, skipped = self._counts.tolist()
        most = min(steps, MOST_IN_A_ROW)
        if longest >= most:
            raise RicError(
                f"The loss was not finite in {most} steps in a row; the run stops.",
                "The last good checkpoint is kept. Try a lower --lr, or --dtype fp32.",
            )
        return int(skipped)

    def tensors(self, named: Mapping[str, torch.nn.Parameter]) -> Tensors:
        """Collect what a checkpoint needs: moments and step counts by name, skipped steps."""
        moments = optimizer_tensors(named.items(), self.optimizer)
        return {**moments, SKIPPED: self._counts[2:]}

    def restore(self, named: Mapping[str, torch.nn.Parameter], tensors: Tensors) -> None:
        """Put back what `tensors` gave; counting in a row starts over.

        Raises:
            RicError: the moments are in 8 bits and these are not, or the other way round.
        """
        moments = [name for name in tensors if name != SKIPPED]
        in_8_bits = any(name.endswith(":state1") for name in moments)
        if moments and in_8_bits != self.eight_bit:
            raise RicError(
                "The checkpoint's moments are of the other AdamW: in 8 bits or not.",
                "Keep --adam-8bit as it was, or begin a new run.",
            )
        if self.eight_bit:
            for place, parameter in enumerate(self.parameters):
                # its tables of 8-bit values are made, not read
                self.optimizer.init_state(  # type: ignore[attr-defined]
                    self.optimizer.param_groups[0], parameter, 0, place
                )
        restore_optimizer(named.items(), self.optimizer, tensors)
        self._counts = torch.zeros_like(self._counts)
        self._counts[2] = tensors[SKIPPED][-1]


def _eight_bit_adamw() -> Callable[..., torch.optim.Optimizer]:
    require_extra("bitsandbytes")
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit


def finite_or_none(row: Mapping[str, float]) -> dict[str, float | None]:
    """Give a row for metrics.jsonl: JSON has no NaN, so what is not finite becomes null."""
    return {key: value if math.isfinite(value) else None for key, value in row.items()}
