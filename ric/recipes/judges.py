"""Which judges `train-unet` needs: those whose losses are on. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.errors import RicError

if TYPE_CHECKING:
    from ric.config import TrainUnetConfig


def region_judge_of(config: TrainUnetConfig) -> str | None:
    """Name the region judge; None where the region loss is off.

    Raises:
        RicError: the loss is on and no judge is named.
    """
    if config.region_loss and config.region_clip is None:
        raise RicError(
            "The region loss needs a fitted judge: --region-clip RUN.",
            "Fit one with ric fit-clip DATA, or train without that loss: --no-region-loss",
        )
    return config.region_clip if config.region_loss else None


def scene_judge_of(config: TrainUnetConfig) -> str | None:
    """Name the scene judge; None where the scene loss is off.

    Raises:
        RicError: the loss is on and no judge is named.
    """
    if config.global_loss and config.scene_blip is None:
        raise RicError(
            "The scene loss needs a fitted judge: --scene-blip RUN.",
            "Fit one with ric fit-blip DATA, or train without that loss: --no-global-loss",
        )
    return config.scene_blip if config.global_loss else None
