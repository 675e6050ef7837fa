"""The schedulers of diffusers that sample an InstructPix2Pix-type UNet, by name.

Those that are not here are made for other networks (flow matching, EDM's preconditioning,
consistency models, discrete tokens), run backwards (inverse schedulers), or draw noise that no seed
determines (DPMSolverSDEScheduler). Imports no torch: preflight reads this.
"""

from __future__ import annotations

from typing import NamedTuple

from ric.errors import RicError
from ric.registry import did_you_mean


class Scheduler(NamedTuple):
    """A scheduler: its class in diffusers, and what the UNet may predict."""

    kind: str
    predictions: tuple[str, ...] = ("epsilon", "v_prediction", "sample")


NO_SAMPLE = ("epsilon", "v_prediction")
SCHEDULERS = {
    "ddim": Scheduler("DDIMScheduler"),
    "ddim-parallel": Scheduler("DDIMParallelScheduler"),
    "ddpm": Scheduler("DDPMScheduler"),
    "ddpm-parallel": Scheduler("DDPMParallelScheduler"),
    "deis": Scheduler("DEISMultistepScheduler"),
    "dpm-solver": Scheduler("DPMSolverMultistepScheduler"),
    "dpm-solver-singlestep": Scheduler("DPMSolverSinglestepScheduler"),
    "euler": Scheduler("EulerDiscreteScheduler"),
    "euler-ancestral": Scheduler("EulerAncestralDiscreteScheduler", NO_SAMPLE),
    "heun": Scheduler("HeunDiscreteScheduler"),
    "kdpm2": Scheduler("KDPM2DiscreteScheduler", NO_SAMPLE),
    "kdpm2-ancestral": Scheduler("KDPM2AncestralDiscreteScheduler", NO_SAMPLE),
    "lcm": Scheduler("LCMScheduler"),
    "lms": Scheduler("LMSDiscreteScheduler"),
    "pndm": Scheduler("PNDMScheduler", NO_SAMPLE),
    "sa-solver": Scheduler("SASolverScheduler"),
    "tcd": Scheduler("TCDScheduler"),
    "unipc": Scheduler("UniPCMultistepScheduler"),
}


def scheduler_class(name: str, prediction_type: str | None = None) -> str:
    """Return the class in diffusers of a scheduler.

    Args:
        name: A key of `SCHEDULERS`, or the class itself.
        prediction_type: What the UNet predicts; None where that is not known yet.

    Raises:
        RicError: there is none of that name here, or it cannot sample such a UNet.
    """
    of_class = {one.kind: key for key, one in SCHEDULERS.items()}
    found = SCHEDULERS.get(of_class.get(name, name))
    if found is None:
        raise RicError(
            f"There is no scheduler {name!r} that samples an InstructPix2Pix-type UNet.",
            f"{did_you_mean(name, SCHEDULERS)}Choose one of: {', '.join(SCHEDULERS)}.",
        )
    if prediction_type is not None and prediction_type not in found.predictions:
        others = [key for key, one in SCHEDULERS.items() if prediction_type in one.predictions]
        raise RicError(
            f"The scheduler {name} cannot sample a UNet whose prediction_type is"
            f" {prediction_type!r}.",
            f"Choose one of: {', '.join(others)}." if others else None,
        )
    return found.kind
