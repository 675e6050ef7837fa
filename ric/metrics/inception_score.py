"""The Inception score of a set of pictures (Salimans et al. 2016), as torch-fidelity counts it.

exp of the mean KL divergence between a picture's classes and the classes of all: high when each
picture clearly has one class and together they have many. It uses no reference.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ric.errors import RicError

SPLITS = 10
SHUFFLE_SEED = 2020  # torch-fidelity's


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the splits, 1 or more."""

    mean: float
    std: float
    n: int


def inception_score(
    logits: Tensor, splits: int = SPLITS, shuffle_seed: int = SHUFFLE_SEED
) -> InceptionScore:
    """Return the Inception score of N pictures.

    The rows are shuffled by `numpy.random.RandomState(shuffle_seed)`, then cut into
    min(splits, N) runs, each scored by itself. Pass the rows in the order of sorted ids, so that
    the score does not depend on the order of reading.

    Args:
        logits: (N, C).
        splits: How many runs; torch-fidelity returns NaN if there are more runs than pictures.
        shuffle_seed: torch-fidelity's `rng_seed`.

    Raises:
        RicError: there is no picture.
    """
    count = len(logits)
    if count == 0:
        raise RicError("The Inception score needs 1 picture or more, and has 0.")
    splits = min(splits, count)
    order = np.random.RandomState(shuffle_seed).permutation(count)
    log_p_NC = logits[torch.from_numpy(order)].double().log_softmax(dim=1)
    edges = [run * count // splits for run in range(splits + 1)]
    scores = [_split_score(log_p_NC[start:stop]) for start, stop in pairwise(edges)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), count)


def _split_score(log_p_NC: Tensor) -> float:
    """Return exp E[KL(p(y|x) || p(y))] of one run."""
    p_NC = log_p_NC.exp()
    marginal_C = p_NC.mean(dim=0)
    divergence_N = (p_NC * (log_p_NC - marginal_C.log())).sum(dim=1)
    return float(divergence_N.mean().exp())
