"""AdamW that steps over a NaN: decided on the device, so that no step waits for the host.

The fused kernel reads `found_inf` and leaves weights, moments and step counts alone when it is 1.
How many steps were skipped is counted on the device and read only when something is logged; ten in
a row end the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_IN_A_ROW = 10


class GuardedAdamW:
    """Fused AdamW with clipping that skips a step whose loss or gradient is not finite.

    Args:
        parameters: What is trained; all on one device.
        lr: Learning rate, constant (choice 8: no schedule, no warm-up).
        betas: AdamW's betas.
        weight_decay: AdamW's decoupled weight decay.
        max_grad_norm: Gradients are scaled down to this norm; None leaves them.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-2,
        max_grad_norm: float | None = None,
    ) -> None:
        self.parameters = list(parameters)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True
        )
        self.max_grad_norm = float("inf") if max_grad_norm is None else max_grad_norm
        device = self.parameters[0].device
        self._in_a_row = torch.zeros((), device=device)
        self._longest = torch.zeros((), device=device)
        self._skipped = torch.zeros((), device=device)

    def step(self, loss: torch.Tensor) -> torch.Tensor:
        """Update from the gradients that are there and clear them.

        Returns:
            The gradients' norm before clipping, on the device.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        bad = (~(torch.isfinite(norm) & torch.isfinite(loss.detach()))).float()
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._in_a_row = (self._in_a_row + 1) * bad
        self._longest = torch.maximum(self._longest, self._in_a_row)
        self._skipped = self._skipped + bad
        return norm

    def check(self) -> int:
        """Read the counts (this waits for the device) and return the steps skipped so far.

        Raises:
            RicError: ten steps in a row had no finite loss.
        """
        if self._longest.item() >= MOST_IN_A_ROW:
            raise RicError(
                f"The loss was not finite in {MOST_IN_A_ROW} steps in a row; the run stops.",
                "The last good checkpoint is kept. Try a lower --lr, or --dtype fp32.",
            )
        return int(self._skipped.item())
