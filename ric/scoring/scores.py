"""One editor's scores, each with all that is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Role = Literal["editor", "identity", "ground-truth"]


class Metric(NamedTuple):
    """How a metric is shown, and which way is better."""

    heading: str
    higher_is_better: bool
    digits: int


# In the order of the columns; all of the first seven but KID are the paper's.
METRICS = {
    "clip_i": Metric("CLIP-I", True, 4),
    "dino": Metric("DINO", True, 4),
    "clip_t": Metric("CLIP-T", True, 4),
    "lpips": Metric("LPIPS", False, 4),
    "fid": Metric("FID", False, 2),
    "kid": Metric("KID", False, 4),
    "is": Metric("IS", True, 2),
    "clip_i_source": Metric("CLIP-I to source", True, 4),
    "clip_i_target": Metric("CLIP-I to target", True, 4),
    "dino_source": Metric("DINO to source", True, 4),
    "dino_target": Metric("DINO to target", True, 4),
    "l1": Metric("L1", False, 4),
    "l2": Metric("L2", False, 4),
    "psnr_outside": Metric("PSNR outside the mask, dB", True, 2),
    "ssim_outside": Metric("SSIM outside the mask", True, 4),
    "lpips_outside": Metric("LPIPS outside the mask", False, 4),
    # of PIE-Bench alone: pie_bench.py
    "structure_distance": Metric("Structure distance", False, 4),
    "psnr_unedited": Metric("PSNR unedited, dB", True, 2),
    "lpips_unedited": Metric("LPIPS unedited", False, 4),
    "mse_unedited": Metric("MSE unedited", False, 5),
    "ssim_unedited": Metric("SSIM unedited", True, 4),
    "clip_source": Metric("CLIP score, source", True, 2),
    "clip_edited": Metric("CLIP score, edited", True, 2),
    "clip_edited_part": Metric("CLIP score, edited part", True, 2),
    # of drawn scenes alone: context_error.py and edit_success.py
    "edit_success": Metric("Edit success", True, 3),
    "l1_inside": Metric("L1 inside both masks", False, 4),
    "l1_gain": Metric("L1 gained on doing nothing", True, 4),
    "region_error": Metric("Region error", False, 3),
    "context_error": Metric("Context error", False, 3),
    "sticker_rate": Metric("Sticker rate", False, 3),
    "psnr_preserved": Metric("PSNR outside both masks, dB", True, 2),
}
OF_SCENES = (
    "edit_success", "l1_inside", "l1_gain", "region_error", "context_error", "sticker_rate",
    "psnr_preserved",
)  # fmt: skip
THE_SIX = ("clip_i", "dino", "clip_t", "lpips", "fid", "is")
PIE_BENCH = (
    "structure_distance", "psnr_unedited", "lpips_unedited", "mse_unedited", "ssim_unedited",
    "clip_source", "clip_edited", "clip_edited_part",
)  # fmt: skip
SHOWN_FIRST = ("clip_i", "dino", "clip_t", "lpips", "fid", "kid", "is", *PIE_BENCH)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of one editor, with all that is needed to read it.

    Attributes:
        key: The metric, a key of `METRICS`.
        definition: The network, the resize and the reference in one line.
        value: The score; None where there is none, and then `unavailable` says why.
        n: How many samples it speaks for.
        marker: The network's or the rule's name where it is not the published one.
        interval: 95 % interval: of a mean by bootstrap, of KID by subsets, of a difference of FIDs
            by the jackknife.
        std: Of IS the standard deviation over splits, of FID the jackknife's standard error.
        note: What the reader must know beside the number.
        unavailable: Why there is no value.
    """

    key: str
    definition: str = ""
    value: float | None = None
    n: int = 0
    marker: str = ""
    interval: tuple[float, float] | None = None
    std: float | None = None
    note: str | None = None
    unavailable: str | None = None

    @property
    def name(self) -> str:
        """The metric with its marker, as in `fid[scene-net]`."""
        return self.key + self._bracket

    @property
    def heading(self) -> str:
        """The column's title with its arrow, as in `FID[scene-net] (down arrow)`."""
        metric = METRICS[self.key]
        return f"{metric.heading}{self._bracket} {'↑' if metric.higher_is_better else '↓'}"

    @property
    def direction(self) -> Literal["up", "down"]:
        """Which way is better."""
        return "up" if METRICS[self.key].higher_is_better else "down"

    @property
    def number(self) -> str:
        """The value as it is printed, or an empty string."""
        if self.value is None:
            return ""
        digits = METRICS[self.key].digits
        spread = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.value:z.{digits}f}{spread}"

    @property
    def _bracket(self) -> str:
        return f"[{self.marker}]" if self.marker else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the score as JSON-ready values; what it does not have is left out."""
        optional = {
            "low": self.interval and self.interval[0],
            "high": self.interval and self.interval[1],
            "std": self.std,
            "note": self.note,
            "unavailable": self.unavailable,
        }
        return {
            "value": self.value,
            "n": self.n,
            "direction": self.direction,
            "definition": self.definition,
            **{key: value for key, value in optional.items() if value is not None},
        }


@dataclass(frozen=True)
class Difference:
    """One editor's scores less another's, over the samples that both have.

    Attributes:
        label: Whose.
        against: Less whose.
        scores: The differences, each with its 95 % interval.
        samples: How many samples both have.
    """

    label: str
    against: str
    scores: tuple[Score, ...]
    samples: int = 0

    @property
    def heading(self) -> str:
        """What a table calls it."""
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
        label: What the table calls it.
        scores: In the order of the columns.
        role: `identity` (the unedited source) and `ground-truth` stand beside the editors and
            are never marked as best.
        samples: How many samples were scored.
        shared: How many of them every editor of the table has; None: all.
    """

    label: str
    scores: tuple[Score, ...]
    role: Role = "editor"
    samples: int = 0
    shared: int | None = None

    @property
    def is_apart(self) -> bool:
        """Whether it speaks for samples that other rows of its table do not have."""
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
            "scores": {score.name: score.as_dict() for score in self.scores},
        }
