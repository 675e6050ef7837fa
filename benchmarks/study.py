"""The table of a study: each variant over its seeds, and its difference to plain fine-tuning.

    python benchmarks/study.py NAME-SEED=EVAL_RUN … [--plain plain] [--by-type DATA]

Each argument names a run of `ric eval` over one variant's edits with one training seed, such as
`hinged-0=ablations/hinged-0-scores`; a name without a seed (`base`) was not trained. A variant's
value is the mean over samples and seeds, weighted as the metric is. Its difference is taken to the
plain trainings of the same seeds on the same samples; the 95 % interval draws samples (10,000
times, each with all of its seeds in both variants), so it speaks for other test samples, and not
for other seeds: their spread stands beside it. FID is a mean over seeds, with its spread.
`--by-type` adds a table for each type of edit in DATA, which was scored, without FID. The table is
printed in Markdown; all figures are appended to benchmarks/results/study-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from _results import append_result, measured_here

from ric.data.sample import load_samples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DRAWS = 10_000
# metric to the column of its weight in a mean; "" where every sample counts alike
METRICS = {
    "lpips": "", "psnr_preserved": "", "l1": "", "clip_i": "", "dino": "", "clip_t": "",
    "edit_success": "", "sticker_rate": "", "region_error": "region_weight",
    "context_error": "context_weight",
}  # fmt: skip


class Scored(NamedTuple):
    """One variant with one seed: each metric's values and weights, by sample, and its FID."""

    values: dict[str, Array]
    weights: dict[str, Array]
    fid: float


def read(run: Path, ids: list[str]) -> Scored:
    """Read an eval run's rows, in the order of `ids`; fills `ids` if it is empty."""
    lines = (run / "per_sample.jsonl").read_text(encoding="utf-8").splitlines()
    labels = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]["edits"]
    label = labels[0].partition("=")[0]
    rows = {row["id"]: row for row in map(json.loads, lines) if row["label"] == label}
    if not ids:
        ids += sorted(rows)
    if sorted(rows) != sorted(ids):
        raise SystemExit(f"{run} has other samples than the first run")
    values, weights = {}, {}
    for metric, weight in METRICS.items():
        found = [rows[one][metric] for one in ids]
        there = np.array([value is not None for value in found], float)
        values[metric] = np.array([0.0 if value is None else value for value in found])
        weights[metric] = there * [rows[one][weight] or 0.0 if weight else 1.0 for one in ids]
    return Scored(values, weights, fid_of(run, label))


def fid_of(run: Path, label: str) -> float:
    """Return the FID of an eval run's edits."""
    editors = json.loads((run / "scores.json").read_text(encoding="utf-8"))["editors"]
    (scores,) = (one["scores"] for one in editors if one["label"] == label)
    return next(float(score["value"]) for name, score in scores.items() if name.startswith("fid"))


def means(runs: Sequence[Scored], metric: str, counts: Array) -> Array:
    """Average a metric over runs and samples, each sample so many times: counts (D, N) to (D,)."""
    top = sum(run.values[metric] * run.weights[metric] for run in runs)
    bottom = sum(run.weights[metric] for run in runs)
    return (counts @ top) / (counts @ bottom)


def compare(variant: Sequence[Scored], plain: Sequence[Scored], counts: Array) -> dict[str, Any]:
    """Return each metric's value, its difference to plain, and the difference's interval."""
    once = np.ones((1, counts.shape[1]))
    found: dict[str, Any] = {}
    for metric in METRICS:
        value, base = (means(runs, metric, once)[0] for runs in (variant, plain))
        drawn = means(variant, metric, counts) - means(plain, metric, counts)
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        by_seed = [
            float(means([one], metric, once)[0] - means([other], metric, once)[0])
            for one, other in zip(variant, plain, strict=True)
        ]
        found[metric] = {"value": value, "less_plain": value - base, "low": low, "high": high,
                         "by_seed": by_seed}  # fmt: skip
    fids = [run.fid for run in variant]
    apart = [one.fid - other.fid for one, other in zip(variant, plain, strict=True)]
    found["fid"] = {"value": float(np.mean(fids)), "of_seeds": fids, "by_seed": apart}
    return found


def only(scored: Scored, kept: Array) -> Scored:
    """Leave out the samples that are not kept (N,), from all means."""
    weights = {metric: weight * kept for metric, weight in scored.weights.items()}
    return scored._replace(weights=weights)


def types_of(data: str, ids: Sequence[str]) -> dict[str, Array]:
    """Return which of the samples (N,) are of each type of edit."""
    types = {sample.id: sample.editing_type or "" for sample in load_samples(data)}
    names = sorted({types[one] for one in ids})
    return {name: np.array([types[one] == name for one in ids], float) for name in names}


def study(runs: Mapping[str, Path], plain: str, data: str | None) -> dict[str, dict[str, Any]]:
    """Compare variants with plain fine-tuning of the same seeds, on all samples and each type."""
    ids: list[str] = []
    of_variant: dict[str, dict[str, Scored]] = {}
    for name, run in runs.items():
        variant, _, seed = name.rpartition("-")
        if not seed.isdigit():
            variant, seed = name, "0"
        of_variant.setdefault(variant, {})[seed] = read(run, ids)
    drawn = np.random.default_rng(0).integers(len(ids), size=(DRAWS, len(ids)))
    counts = np.stack([np.bincount(row, minlength=len(ids)) for row in drawn]).astype(float)
    tables: dict[str, dict[str, Any]] = {}
    parts = {"all": np.ones(len(ids))} | (types_of(data, ids) if data else {})
    for part, kept in parts.items():
        tables[part] = {}
        for variant, of_seed in of_variant.items():
            seeds = sorted(of_seed)
            own, base = (
                [only(runs[seed], kept) for seed in seeds] for runs in (of_seed, of_variant[plain])
            )
            tables[part][variant] = {"seeds": seeds, **compare(own, base, counts)}
    return tables


def markdown(table: Mapping[str, Any], *, with_fid: bool) -> str:
    """Format the table: values, and the differences whose interval leaves out 0 in bold."""
    shown = {
        "lpips": ("LPIPS", 3),
        "psnr_preserved": ("PSNR outside", 2),
        "edit_success": ("edit success", 3),
        "sticker_rate": ("sticker rate", 3),
        "context_error": ("context error", 3),
        "region_error": ("region error", 3),
    }
    names = [
        "variant",
        "seeds",
        *(name for name, _ in shown.values()),
        *(["FID"] if with_fid else []),
    ]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for variant, row in table.items():
        cells = [variant, str(len(row["seeds"]))]
        for metric, (_, digits) in shown.items():
            one = row[metric]
            clear = one["low"] > 0 or one["high"] < 0
            low, apart, high = (f"{one[key]:+.{digits}f}" for key in ("low", "less_plain", "high"))
            told = f"{apart} ({low} to {high})"
            told = f" **{told}**" if clear else f" {told}"
            cells.append(f"{one['value']:.{digits}f}{'' if variant == 'plain' else told}")
        cells += [f"{row['fid']['value']:.2f}"] if with_fid else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Compare, print, append the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME-SEED=EVAL_RUN")
    parser.add_argument("--plain", default="plain")
    parser.add_argument("--by-type", metavar="DATA")
    args = parser.parse_args()
    named = (text.partition("=") for text in args.runs)
    tables = study({name: Path(run) for name, _, run in named}, args.plain, args.by_type)
    for part, table in tables.items():
        print(f"{part}:\n\n{markdown(table, with_fid=part == 'all')}\n")
    result = measured_here(plain=args.plain, variants=tables.pop("all"), by_type=tables)
    print(f"appended to {append_result('study', result)}", file=sys.stderr)


if __name__ == "__main__":
    main()
