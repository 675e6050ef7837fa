"""The tables of `ric eval`: every editor's scores, for all samples and for groups."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ric.runs.artifacts import public_name
from ric.runs.rows import write_atomically
from ric.scoring.differences import difference
from ric.scoring.judge_words import judge_in_words
from ric.scoring.pie_bench import PieBenchSuite
from ric.scoring.protocols import by_protocol
from ric.scoring.region_sizes import REGION_SIZES
from ric.scoring.score_table import to_csv, to_latex, to_markdown
from ric.scoring.suite import MetricSuite
from ric.table_text import in_markdown, in_prose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ric.config import EvalConfig
    from ric.runs.run import RunDir
    from ric.scoring.outputs import Outputs
    from ric.scoring.scores import Difference, Scores
    from ric.scoring.set_distances import FidSet

DECODED = {
    "ric": "as sRGB: colour profiles and orientation are applied, transparency lies on white",
    "plain": "as Pillow's open().convert('RGB'): profiles, orientation and transparency are"
    " ignored",
}
Suite = MetricSuite | PieBenchSuite


class Table(NamedTuple):
    """A table's rows, differences and every sample's numbers.

    The differences are those of later editors from the first, then of all from the identity.
    """

    rows: list[Scores]
    differences: list[Difference]
    per_sample: dict[str, list[dict[str, Any]]]


class Tables(NamedTuple):
    """The table of all samples, and one for each group of `--group-by`."""

    whole: Table
    groups: dict[str, Table]


def make_tables(
    config: EvalConfig,
    suites: Mapping[str, Suite],
    edited: Sequence[Outputs],
    fid_set: FidSet | None,
) -> Tables:
    """Finish every suite, over all samples and over each group."""
    groups = _groups(suites, edited)
    return Tables(
        _finish(config, suites, fid_set),
        {name: _finish(config, suites, fid_set, ids) for name, ids in groups.items()},
    )


def _finish(
    config: EvalConfig,
    suites: Mapping[str, Suite],
    fid_set: FidSet | None,
    only: set[str] | None = None,
) -> Table:
    of_editors = [set(suite.ids) for suite in suites.values() if suite.role == "editor"]
    held = [ids if only is None else ids & only for ids in of_editors]
    # an editor without any scored picture does not narrow the shared samples
    shared = set.intersection(*filter(None, held))
    finished = []
    for suite in suites.values():
        scored = suite.finish(only if suite.role == "editor" else shared, fid_set)
        scores = replace(by_protocol(scored.scores, config.protocol), shared=len(shared))
        finished.append(scored._replace(scores=scores))
    # data without targets has no ground truth to show
    shown = [scored for scored in finished if scored.rows or scored.scores.role == "editor"]
    first, *others = [one for one in finished if one.rows and one.scores.role == "editor"]
    identity = [one for one in finished if one.rows and one.scores.role == "identity"]
    apart = [(later, first) for later in others]
    apart += [(editor, one) for one in identity for editor in (first, *others)]
    return Table(
        [one.scores for one in shown],
        [difference(one, other, fid_set=fid_set, seed=config.seed) for one, other in apart],
        {scored.scores.label: scored.rows for scored in shown},
    )


def _groups(suites: Mapping[str, Suite], edited: Sequence[Outputs]) -> dict[str, set[str]]:
    """Return the ids of each group of `--group-by`, by its name."""
    # sizes from small to large, types alphabetically
    groups: dict[str, set[str]] = {name: set() for name in REGION_SIZES}
    for item in edited:
        for name, group in sorted(suites[item.label].groups().items(), key=lambda one: one[1]):
            groups.setdefault(group, set()).add(name)
    return {name: ids for name, ids in groups.items() if ids}


def write_tables(run: RunDir, made: Tables) -> None:
    """Write scores.json, per_sample.jsonl, table.md, table.csv and table.tex."""
    table, groups = made
    config = run.record["config"]
    lines = [
        json.dumps({"label": label, **row})
        for label, part in table.per_sample.items()
        for row in part
    ]
    scores = {
        "data": public_name(run.record["data"]),
        "protocol": config["protocol"],
        "decode": config["decode"],
        "registered": config["register"],
        "outputs": _fitting_in_words(config),
        "weights": public_name(run.record.get("weights", {})),
        **({"judge": run.record["judge"]} if "judge" in run.record else {}),
        **_in_json(table),
        "groups": {name: _in_json(group) for name, group in groups.items()},
    }
    layout, chosen = config["layout"], config.get("metrics") is not None
    tables = [to_markdown(table.rows, table.differences, layout)]
    for name, group in groups.items():
        table_of_group = to_markdown(group.rows, group.differences, layout)
        tables.append(f"## {in_markdown(name)}\n\n{table_of_group}")
    write_atomically(run.path / "per_sample.jsonl", "\n".join(lines) + "\n")
    write_atomically(run.path / "scores.json", json.dumps(scores, indent=2) + "\n")
    write_atomically(run.path / "table.md", "\n".join(tables) + _weights_in_words(run))
    in_csv: dict[str, list[Scores | Difference]] = {
        name: [*some.rows, *some.differences] for name, some in {"": table, **groups}.items()
    }
    write_atomically(run.path / "table.csv", to_csv(in_csv))
    write_atomically(run.path / "table.tex", to_latex(table.rows, layout, all_columns=chosen))


def _fitting_in_words(config: Mapping[str, Any]) -> str:
    """Say how outputs are resized for scoring."""
    size = "the source's" if config["protocol"] == "pie-bench" else "the reference's"
    words = f"outputs are brought to {size} size by PIL's bicubic on 8-bit pixels"
    if config["protocol"] == "magicbrush":
        words += ", but for CLIP and DINO, which see them at their own"
    others = {"squash": "squashed", "crop": "cropped", "pad": "padded with black"}
    fit = others.get(config["fit"], "failures")
    return f"{words}; those of another shape are {fit}"


def _weights_in_words(run: RunDir) -> str:
    """Write table.md's end: decoding, fitting, and the weights with their revisions."""
    config = run.record["config"]
    lines = [f"- pictures are decoded {DECODED[config['decode']]}"]
    if config["register"]:
        lines.append("- outputs are scored without their shift and scale against their sources")
    lines.append(f"- {_fitting_in_words(config)}")
    if "judge" in run.record:
        lines += [f"- {in_prose(line)}" for line in judge_in_words(run.record["judge"])]
    lines += [
        f"- weights of {name}: {in_markdown(str(public_name(weight.get('id'))))}"
        + (f", revision {weight['revision']}" if weight.get("revision") else "")
        + (f", SHA-256 {weight['sha256']}" if "sha256" in weight else "")
        for name, weight in run.record.get("weights", {}).items()
    ]
    return "\n".join(lines) + "\n"


def _in_json(table: Table) -> dict[str, Any]:
    return {
        "editors": [row.as_dict() for row in table.rows],
        "differences": [row.as_dict() for row in table.differences],
    }
