"""A judge of `ric eval` is a describer that is asked for scores: its settings as a describer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.config import DescribeConfig

if TYPE_CHECKING:
    from ric.config import EvalConfig

# settings that both commands have, under one name
SHARED = (
    "seed", "device", "max_new_tokens", "attempts", "load_in", "base_url", "concurrency", "timeout",
    "sent_pixels",
)  # fmt: skip


def describer_settings(config: EvalConfig) -> DescribeConfig:
    """Return the settings with which the judge's back-end is loaded."""
    return DescribeConfig(
        describer=config.judge,
        model=config.judge_model or "",
        dtype=config.judge_dtype,
        batch_size=config.judge_batch_size,
        weights=config.weights,
        **{name: getattr(config, name) for name in SHARED},
    )
