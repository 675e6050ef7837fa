"""What an evaluation computes of every editor, and against what."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ric.config import EvalConfig, Reference
from ric.registry import OF_ANY_PICTURES
from ric.scoring.load_metrics import LoadedMetric, load_pair_metrics
from ric.scoring.scores import OF_SCENES

OF_ALL_DATA = tuple(key for key in OF_ANY_PICTURES if key not in OF_SCENES)


def _all_of_pixels() -> tuple[LoadedMetric, ...]:
    return load_pair_metrics(EvalConfig(), torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The settings that all rows of a table share.

    Attributes:
        metrics: Keys of `METRICS` that are asked for; what reads a network that is not there says
            so.
        pair_metrics: Those among them that look at one picture at a time, and your own.
        reference: Which picture the outputs are held against.
        text: Which text CLIP-T is asked to compare with; a pair may bring another kind instead.
        with_other: Whether CLIP-I and DINO stand there a second time, against the other one of
            source and target.
        encode_fitted: Whether CLIP and DINO see the edited picture at the reference's size, as all
            else does, or at its own.
        seed: Of the intervals.
    """

    metrics: tuple[str, ...] = OF_ALL_DATA
    pair_metrics: tuple[LoadedMetric, ...] = field(default_factory=_all_of_pixels)
    reference: Reference = "target"
    text: str = "text"
    with_other: bool = True
    encode_fitted: bool = True
    seed: int = 0

    @property
    def other(self) -> Reference:
        """The other one of source and target."""
        return "source" if self.reference == "target" else "target"

    @property
    def to_the_other(self) -> tuple[str, ...]:
        """CLIP-I and DINO against the other picture."""
        if not self.with_other:
            return ()
        return tuple(f"{key}_{self.other}" for key in ("clip_i", "dino") if key in self.metrics)

    def columns(self, *, of_scenes: bool) -> list[str]:
        """List the numbers that are kept of each sample."""
        of_sets = ("fid", "kid", "is")
        kept = [key for key in self.metrics if key not in (*of_sets, *OF_SCENES)]
        own = [metric.key for metric in self.pair_metrics if metric.own]
        scenes = [key for key in OF_SCENES if of_scenes and key in self.metrics]
        return [*kept, *self.to_the_other, *own, *scenes]
