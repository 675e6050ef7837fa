"""The samples that a judge is fitted on, and those it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ric.inputs.examples import enough, load_examples
from ric.runs.trained_on import list_trained_on

if TYPE_CHECKING:
    from ric.config import FitBlipConfig, FitClipConfig
    from ric.inputs.examples import Example, Needs
    from ric.work import Work


@dataclass(frozen=True)
class FitSet:
    """The samples of a fit.

    Attributes:
        fitted: Those of the split to fit.
        measured: Those that retrieval is measured on at the end, by split: val and test after a fit
            on train, else the fitted ones. Only the main process has val and test.
    """

    fitted: list[Example]
    measured: dict[str, list[Example]]

    @property
    def held_out(self) -> list[Example]:
        """The val split; empty if the fit is not on train."""
        return self.measured.get("val", [])


def load_fit_set(config: FitClipConfig | FitBlipConfig, work: Work, needs: Needs) -> FitSet:
    """Decode the samples of a fit, and list in the run what it trains on.

    Raises:
        RicError: fewer than two samples can be used.
    """
    load = partial(load_examples, config, work, config.split, needs)
    fitted = enough(work.ranks.once_per_machine(load), work.run)
    list_trained_on(fitted, work.run)
    if config.split != "train":
        return FitSet(fitted, {config.split: fitted})
    # only the main process measures
    measured = {
        split: load_examples(config, work, split, needs)
        for split in ("val", "test")
        if work.ranks.is_main
    }
    return FitSet(fitted, measured)
