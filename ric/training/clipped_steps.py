"""A warning where the alignments, not the noise loss, decide what gradient clipping leaves.

Gradients longer than `--max-grad-norm` are scaled down as one vector. Where an alignment's part of
it is much the longest, the noise loss, which keeps an edit's picture sound, is scaled down with it
and nearly goes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ric.config import TrainUnetConfig

ADVICE = "Try --balance 0.3 --hinge, or let the judges choose instead: see docs/method.md."


def warn_of_clipping(rows: Sequence[Mapping[str, Any]], config: TrainUnetConfig) -> str | None:
    """Say in a line that alignments caused the clipping of more than half of the logged steps.

    Args:
        rows: The run's metrics.jsonl.
        config: Its settings: the limit and the terms' weights.

    Returns:
        The warning; None where there is no reason for one.
    """
    clipped = sum(_clips(row, config) for row in rows)
    if 2 * clipped <= len(rows):
        return None
    return (
        f"In {clipped} of {len(rows)} logged steps the gradient was clipped"
        f" (--max-grad-norm {config.max_grad_norm:g}) and an alignment's part of it was longer than"
        f" the noise loss's, which then counts for little. {ADVICE}"
    )


def _clips(row: Mapping[str, Any], config: TrainUnetConfig) -> bool:
    """Tell whether a step was clipped while an alignment's weighted gradient was the longer one."""
    whole, noise = row.get("grad_norm"), row.get("grad_norm_noise")
    if whole is None or noise is None or whole <= config.max_grad_norm:
        return False
    weights = {"region": config.region_weight, "global": config.global_weight}
    return any(
        weight * row.get(f"balance_{name}", 1.0) * (row.get(f"grad_norm_{name}") or 0.0)
        > config.noise_weight * noise
        for name, weight in weights.items()
    )
