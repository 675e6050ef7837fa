"""Bradley-Terry strengths of editors from votes between two of them at a time.

Editor i is preferred to j with probability g_i / (g_i + g_j) (Bradley & Terry 1952). The strengths
g of greatest likelihood come from the MM algorithm (Hunter 2004, "MM algorithms for generalized
Bradley-Terry models", Annals of Statistics 32, Eq. 3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Each two editors are taken to have won half a vote against each other beside those that were cast.
# Without it an editor that won every vote has no finite strength, nor has any of two groups that
# were never compared; draws of a bootstrap are often so.
PRIOR = 0.5
CLOSE = 1e-10  # largest relative change of the last step
MOST_STEPS = 20_000


def strengths(wins_EE: Array, prior: float = PRIOR) -> Array:
    """Return the strengths (..., E) of E editors, which sum to 1.

    Of two editors alone and with `prior` 0 they are the shares of wins.

    Args:
        wins_EE: How often the row's editor was preferred to the column's, (..., E, E), at least 0;
            the diagonal is ignored. Leading dimensions are fitted apart, such as draws.
        prior: Added to each; 0 only where every editor, or group of them, has won and has lost
            against the rest.
    """
    apart_EE = 1 - np.eye(wins_EE.shape[-1])
    wins_EE = (np.asarray(wins_EE, np.float64) + prior) * apart_EE
    votes_EE = wins_EE + wins_EE.swapaxes(-1, -2)
    won_E = wins_EE.sum(axis=-1)
    found_E: Array = np.full(won_E.shape, 1 / won_E.shape[-1])
    for _ in range(MOST_STEPS):
        pairs_EE = found_E[..., :, None] + found_E[..., None, :]
        next_E = won_E / (votes_EE / pairs_EE).sum(axis=-1)  # Hunter's Eq. 3
        next_E /= next_E.sum(axis=-1, keepdims=True)
        change = float(np.max(np.abs(next_E / found_E - 1), initial=0.0))
        found_E = next_E
        if change < CLOSE:
            break
    return found_E
