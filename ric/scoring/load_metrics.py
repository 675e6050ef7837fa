"""Load the metrics that score one edited picture at a time: ric's pixel metrics, and yours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ric.errors import RicError, first_line
from ric.metric_table import METRICS, Metric, metric_key, metrics_of
from ric.models.locate import locate
from ric.registry import load_part

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ric.config import EvalConfig
    from ric.metrics.pair_metric import PairMetric
    from ric.metrics.pairs import Pair
    from ric.runs.run import RunDir


@dataclass(frozen=True)
class LoadedMetric:
    """A requested metric, with how tables show it.

    Attributes:
        key: Its name in tables.
        metric: The object that computes it.
        own: How one of yours is shown; None for ric's.
    """

    key: str
    metric: PairMetric
    own: Metric | None = None
    marker: str = ""  # it has no network to name

    @property
    def definition(self) -> str:
        """The metric's definition, in one line."""
        return self.metric.definition

    @property
    def needs(self) -> str:
        """The input that a picture must have for it: `reference`, `source` or `mask`."""
        return str(getattr(self.metric, "needs", "reference"))

    def score(self, pair: Pair, reference: Image.Image | None) -> float | None:
        """Score one edited picture.

        Raises:
            RicError: your own metric fails, or returns anything but a finite number or None.
        """
        if self.own is None:
            return self.metric.score(pair, reference)
        try:
            value = self.metric.score(pair, reference)
            number = None if value is None else float(value)
        except Exception as error:  # whatever another's code raises
            raise self._failed(pair, f"{type(error).__name__}: {first_line(error)}") from error
        if number is not None and not math.isfinite(number):
            raise self._failed(pair, f"it returned {number}")
        return number

    def _failed(self, pair: Pair, why: str) -> RicError:
        return RicError(
            f"The metric {self.key} fails on sample {pair.id!r}: {why}.",
            "It must return a finite number, or None where a picture has no such score.",
        )


def load_pair_metrics(
    config: EvalConfig, device: torch.device, run: RunDir | None = None
) -> tuple[LoadedMetric, ...]:
    """Load the metrics that `config` names, ric's own and yours.

    Args:
        config: The settings of `ric eval`.
        device: Where a metric's model runs.
        run: Records the models; needed where a metric has one.

    Raises:
        RicError: a model is not there; or one of your metrics cannot be imported or created, or
            lacks a required attribute.
    """
    loaded = []
    for name in metrics_of(config):
        shipped = METRICS.get(name)
        if shipped is None:
            loaded.append(_make_own(name, config, device))
        elif shipped.place and not shipped.measure:
            model = locate(config, shipped.setting, run) if shipped.setting and run else None
            loaded.append(LoadedMetric(name, load_part("metric", name)(model, config, device)))
    return tuple(loaded)


def _make_own(name: str, config: EvalConfig, device: torch.device) -> LoadedMetric:
    make, key = load_part("metric", name), metric_key(name)
    try:
        metric = make(None, config, device)
    except Exception as error:  # whatever another's code raises
        why = f"{type(error).__name__}: {first_line(error)}"
        raise RicError(f"The metric {name} cannot be created: {why}") from error
    lacking = [
        part for part in ("definition", "higher_is_better", "score") if not hasattr(metric, part)
    ]
    if lacking:
        raise RicError(
            f"The metric {name} has no {' and no '.join(lacking)}.",
            "See PairMetric in ric/metrics/pair_metric.py.",
        )
    digits = int(getattr(metric, "digits", 4))
    heading = str(getattr(metric, "heading", key))
    return LoadedMetric(key, metric, Metric(heading, bool(metric.higher_is_better), digits))
