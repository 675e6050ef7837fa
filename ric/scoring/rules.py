"""The rules of an evaluation: what is computed for every editor, and against what."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ric.config import EvalConfig, Reference
from ric.metric_table import BOTH_WAYS, OF_ANY_PICTURES, OF_SCENES
from ric.scoring.load_metrics import LoadedMetric, load_pair_metrics
from ric.scoring.scores import OF_SETS

OF_ALL_DATA = tuple(key for key in OF_ANY_PICTURES if key not in OF_SCENES)


def _all_of_pixels() -> tuple[LoadedMetric, ...]:
    return load_pair_metrics(EvalConfig(), torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The settings that all rows of a table share.

    Attributes:
        metrics: The requested keys of `METRICS`; one whose network is missing is shown as not
            available.
        pair_metrics: Those among them that score one picture at a time, and your own.
        reference: The picture that outputs are compared with.
        text: The kind of text that CLIP-T compares with; a pair may have another kind instead.
        with_other: Whether those of `BOTH_WAYS` are also computed against the other one of source
            and target.
        judge: What the metrics of a judge name in brackets; "" where none is asked for.
        encode_fitted: Whether networks that embed a single picture see the edited one at the
            reference's size, as all other metrics do, or at its own.
        seed: Seeds the intervals.
    """

    metrics: tuple[str, ...] = OF_ALL_DATA
    pair_metrics: tuple[LoadedMetric, ...] = field(default_factory=_all_of_pixels)
    reference: Reference = "target"
    text: str = "text"
    with_other: bool = True
    judge: str = ""
    encode_fitted: bool = True
    seed: int = 0

    @property
    def other(self) -> Reference:
        """The one of source and target that is not the reference."""
        return "source" if self.reference == "target" else "target"

    @property
    def to_the_other(self) -> tuple[str, ...]:
        """The keys of those of `BOTH_WAYS` against the other picture."""
        if not self.with_other:
            return ()
        return tuple(f"{key}_{self.other}" for key in BOTH_WAYS if key in self.metrics)

    def columns(self, *, of_scenes: bool) -> list[str]:
        """List the columns of each sample's row."""
        kept = [key for key in self.metrics if key not in (*OF_SETS, *OF_SCENES)]
        own = [metric.key for metric in self.pair_metrics if metric.own]
        scenes = [key for key in OF_SCENES if of_scenes and key in self.metrics]
        return [*kept, *self.to_the_other, *own, *scenes]
