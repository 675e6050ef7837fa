"""One editor's scores, each with all that is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ric.metric_table import METRICS, PIE_BENCH, SET_DISTANCES, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

Role = Literal["editor", "identity", "ground-truth"]


THE_SIX = ("clip_i", "dino", "clip_t", "lpips", "fid", "is")
# one number of all pictures, no mean of samples
OF_SETS = ("fid", "fid_unpaired", "kid", "is", *SET_DISTANCES)
IS_RANKS_FROM = 20  # pictures: each of its ten splits then has two or more, and one alone scores 1
SHOWN_FIRST = ("clip_i", "dino", "clip_t", "lpips", "fid", "fid_unpaired", "kid", "is", *PIE_BENCH)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of one editor, with all that is needed to read it.

    Attributes:
        key: The metric: a key of `METRICS`, or the name of your own.
        definition: The network, the resize and the reference in one line.
        value: The score; None where there is none, and then `unavailable` says why.
        n: How many samples it covers.
        marker: The network's or the rule's name where it is not the published one.
        interval: 95 % interval: for a mean by Student's t, for a share by Wilson's formula, for KID
            and CMMD by subsets, for Frechet distances by the jackknife.
        p: Of a difference: the two-sided p that it is 0, before any correction.
        std: For IS the standard deviation over splits.
        note: What the reader must know beside the number.
        unavailable: Why there is no value.
        own: How a metric that is not in `METRICS` is shown.
        ranks: Whether it may tell which editor is better. Frechet distances and CMMD of pairs may
            not: an editor whose pictures are tied to their own targets looks better for that alone.
    """

    key: str
    definition: str = ""
    value: float | None = None
    n: int = 0
    marker: str = ""
    interval: tuple[float, float] | None = None
    p: float | None = None
    std: float | None = None
    note: str | None = None
    unavailable: str | None = None
    own: Metric | None = None
    ranks: bool = True

    @property
    def metric(self) -> Metric:
        """The row of `METRICS` that says how it is shown."""
        return self.own or METRICS[self.key]

    @property
    def is_shown_first(self) -> bool:
        """True if it is in the first table, with the six."""
        return self.own is not None or self.key in SHOWN_FIRST

    @property
    def name(self) -> str:
        """The metric with its marker, as in `fid[scene-net]`."""
        return self.key + self._bracket

    @property
    def heading(self) -> str:
        """The column's title with its arrow, as in `FID[scene-net] (down arrow)`."""
        arrow = "↑" if self.metric.higher_is_better else "↓"
        return f"{self.metric.heading}{self._bracket} {arrow}"

    @property
    def direction(self) -> Literal["up", "down"]:
        """The direction of better scores."""
        return "up" if self.metric.higher_is_better else "down"

    @property
    def number(self) -> str:
        """The value as it is printed, or an empty string."""
        if self.value is None:
            return ""
        digits = self.metric.digits
        spread = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.value:z.{digits}f}{spread}"

    @property
    def spread(self) -> tuple[float, float] | None:
        """The range in which the score of other pictures may lie; None if unknown.

        KID's is its interval, which fewer than 4 pictures do not have; for IS it is one standard
        deviation over the splits to each side, from `IS_RANKS_FROM` pictures on.
        """
        if self.key == "is" and self.value is not None and self.std is not None:
            few = self.n < IS_RANKS_FROM
            return None if few else (self.value - self.std, self.value + self.std)
        return self.interval

    @property
    def _bracket(self) -> str:
        return f"[{self.marker}]" if self.marker else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the score as JSON-ready values; what it does not have is left out."""
        optional = {
            "low": self.interval and self.interval[0],
            "high": self.interval and self.interval[1],
            "p": self.p,
            "std": self.std,
            "note": self.note,
            "unavailable": self.unavailable,
            "heading": self.own and self.own.heading,
            "digits": self.own and self.own.digits,
            "ranks": None if self.ranks else False,
        }
        return {
            "value": self.value,
            "n": self.n,
            "direction": self.direction,
            "definition": self.definition,
            **{key: value for key, value in optional.items() if value is not None},
        }


def within_range(score: Score, *, difference: bool = False) -> Score:
    """Return a score whose interval is cut at what the score, or a difference of two, can be.

    The truth lies in that range, so that nothing is lost. KID has none: its estimate may be below
    0, where the truth cannot be, and a cut interval would not hold it.
    """
    lowest, highest = score.metric.range
    if difference:
        lowest, highest = lowest - highest, highest - lowest
    if score.interval is None:
        return score
    low, high = (min(max(end, lowest), highest) for end in score.interval)
    return replace(score, interval=(low, high))


@dataclass(frozen=True)
class Difference:
    """One editor's scores minus another's, over the samples that both have.

    Attributes:
        label: The one editor.
        against: The other, whose scores are subtracted.
        scores: The differences, each with its 95 % interval.
        samples: How many samples both have.
    """

    label: str
    against: str
    scores: tuple[Score, ...]
    samples: int = 0

    @property
    def heading(self) -> str:
        """Its heading in a table."""
        return f"{self.label} - {self.against}"

    def as_dict(self) -> dict[str, Any]:
        """Return both labels, samples and every difference by name as JSON-ready values."""
        return {
            "label": self.label,
            "against": self.against,
            "samples": self.samples,
            "scores": {score.name: score.as_dict() for score in self.scores},
        }


@dataclass(frozen=True)
class Scores:
    """All scores of one editor.

    Attributes:
        label: Its name in the table.
        scores: In the order of the columns.
        role: `identity` (the unedited source) and `ground-truth` stand beside the editors and
            are never marked as best.
        samples: How many samples were scored.
        shared: How many of them every editor of the table has; None: all.
        photos: Of how many photos the samples are; None: of as many.
        profiles_apart: Of how many samples only one of output and reference has a colour profile
            that is not sRGB's.
    """

    label: str
    scores: tuple[Score, ...]
    role: Role = "editor"
    samples: int = 0
    shared: int | None = None
    photos: int | None = None
    profiles_apart: int = 0

    @property
    def is_apart(self) -> bool:
        """True if it covers samples that other rows of its table do not have."""
        return self.shared not in (None, self.samples)

    @property
    def marked_label(self) -> str:
        """The label as a table shows it: with a dagger where the row `is_apart`."""
        return f"{self.label} †" if self.is_apart else self.label

    def __getitem__(self, name: str) -> Score:
        """Return a score by name (`fid[scene-net]`), or by key (`fid`: the first of them)."""
        for score in self.scores:
            if name in (score.name, score.key):
                return score
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Return label, role, samples and every score by name as JSON-ready values."""
        return {
            "label": self.label,
            "role": self.role,
            "samples": self.samples,
            "samples_shared": self.samples if self.shared is None else self.shared,
            "photos": self.samples if self.photos is None else self.photos,
            "profiles_apart": self.profiles_apart,
            "scores": {score.name: score.as_dict() for score in self.scores},
        }


def column_names(rows: Sequence[Scores]) -> list[str]:
    """Return every score's name once, in the order of `METRICS`."""
    places = {score.name: score.key for row in rows for score in row.scores}
    return sorted(places, key=lambda name: place_of(places[name]))


def place_of(key: str) -> int:
    """Return a metric's position among the columns; those that are not ric's come last."""
    order = list(METRICS)
    return order.index(key) if key in order else len(order)


def find_score(row: Scores, name: str) -> Score | None:
    """Return the score of exactly that name; None where the row has none."""
    return next((score for score in row.scores if score.name == name), None)
