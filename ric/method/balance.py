"""Balancing the alignments against the noise term by their gradients.

Choice 17: Eq. 10 adds three terms of different scale. At the UNet's output the gradient of the
region term can be a hundred times that of the noise term, and gradient clipping then leaves little
of the latter. With a ratio R each alignment gets the factor R |g_noise| / |g_alignment|, where the
norms are those of d(term)/d(prediction) over a whole batch, averaged over steps (the adaptive
weight of VQGAN, Esser et al. 2021, measured at the output in place of the last layer). Clipping
only lowers: an alignment whose gradient is shorter than R |g_noise| keeps the factor 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping

DECAY = 0.9
EVERY_STEP_UNTIL = 10
EVERY = 10  # steps between two measurements after that: each backpropagates through both judges


class Balance:
    """Running averages of the terms' gradient norms, and the factors that follow from them.

    A step uses the averages up to the step before it. Alignments that were not measured yet, as in
    the first step, get the factor 0.

    Args:
        ratio: R, of an alignment's gradient norm over the noise term's.
        norms: Where the averages are kept, by term; a dictionary that checkpoints store.
        clips: No factor is over 1.
    """

    def __init__(
        self, ratio: float, norms: MutableMapping[str, float], *, clips: bool = False
    ) -> None:
        """Continue from the averages in `norms`."""
        self.ratio, self.norms, self.clips = ratio, norms, clips

    def measures(self, step: int) -> bool:
        """Tell whether a step's norms are to be passed to `update`."""
        return step < EVERY_STEP_UNTIL or step % EVERY == 0

    def factors(self) -> dict[str, float]:
        """Return the factors of the `region` and `global` terms."""
        longest, most = self.ratio * self.norms.get("noise", 0.0), 1.0 if self.clips else math.inf
        return {
            term: min(longest / norm, most) if (norm := self.norms.get(term, 0.0)) else 0.0
            for term in ("region", "global")
        }

    def update(self, norms: Mapping[str, float]) -> None:
        """Average the norms of one batch into those of earlier ones.

        Args:
            norms: By term, before weights and factors. One of 0 (no sample was aligned) or one
                that is not finite is left out.
        """
        for term, norm in norms.items():
            if 0 < norm < float("inf"):
                before = self.norms.get(term)
                self.norms[term] = norm if before is None else DECAY * before + (1 - DECAY) * norm
