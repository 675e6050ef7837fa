"""Arms of a comparison: the outputs of edit and eval runs, with each sample's scores."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ric.config import CommandConfig, EditConfig, EvalConfig, compares_two
from ric.data.edit_sample import EditSample, Pictures
from ric.data.opened import open_data
from ric.errors import RicError
from ric.metric_table import JUDGED, OF_SCENES
from ric.runs.record import find_run, read_record, resolved_run
from ric.runs.rows import read_lines, read_rows
from ric.scoring.outputs import Outputs, find_outputs, turns_of
from ric.scoring.read_scores import read_scores
from ric.scoring.scores import Score
from ric.settings import recorded_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ric.errors import SampleError

    OnFailure = Callable[[SampleError], None]

ConfigT = TypeVar("ConfigT", bound=CommandConfig)


@dataclass
class Arm:
    """One editor's outputs, or one arm of an ablation.

    Attributes:
        label: Its name, unique on a page.
        outputs: Where its pictures are.
        rows: Its rows of per_sample.jsonl, by the sample's id; what several judges have given
            stands in a column of each (`_scored_runs`).
    """

    label: str
    outputs: Outputs
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)


class _ScoredRun(NamedTuple):
    """An eval run: its folder, its record, and where its scores of single samples are shown.

    Attributes:
        path: The folder.
        record: Its run.json.
        columns: The column of `Arm.rows` for each key of its rows that has another name there.
        metrics: Its scores, by the column of `Arm.rows`.
    """

    path: Path
    record: Mapping[str, Any]
    columns: Mapping[str, str]
    metrics: Mapping[str, Score]


class Side(NamedTuple):
    """Arms over one data set.

    Attributes:
        data: DATA as the runs name it.
        configs: How the samples are read, once for each way in which the runs read them.
        arms: In the order in which the runs name them.
        metrics: The scores that single samples have, by the column of `Arm.rows`; those inside the
            masks of drawn scenes first.
        compares_two: Whether two folders are compared, without sources.
        notes: What is missing, a line each.
    """

    data: str
    configs: list[EvalConfig | EditConfig]
    arms: list[Arm]
    metrics: dict[str, Score]
    compares_two: bool
    notes: list[str]

    def samples(self, on_failure: OnFailure) -> Iterator[EditSample]:
        """Yield each sample of which some arm has a picture, once.

        Args:
            on_failure: Called with the error of each bad row of DATA.

        Raises:
            RicError: DATA cannot be read.
        """
        seen: set[str] = set()
        for config in self.configs:
            for sample in _samples_of(config, on_failure):
                if sample.id not in seen and any(output_of(arm, sample) for arm in self.arms):
                    seen.add(sample.id)
                    yield sample


def output_of(arm: Arm, sample: EditSample) -> Path | None:
    """Return the file of an arm's picture of a sample; None where it has none."""
    return arm.outputs.files.get(arm.outputs.name_of(sample))


def read_side(runs: Sequence[Path], runs_dir: Path, data: str | None = None) -> Side | None:
    """Read the outputs and the samples' scores of edit and eval runs.

    Args:
        runs: Runs of any commands; None is returned if no edit or eval run is among them.
        runs_dir: Where references of a run to others are looked up that it has not recorded.
        data: Read the samples here, in place of where the runs did.

    Raises:
        RicError: they are over different data, or an eval run's scores cannot be read.
    """
    arms: list[Arm] = []
    metrics: dict[str, Score] = {}
    configs: list[EvalConfig | EditConfig] = []
    notes: list[str] = []
    first: tuple[Path, Mapping[str, Any]] | None = None
    # eval runs first: they give edit runs their labels
    records = [(path, read_record(path)) for path in runs]
    scored = _scored_runs(records)
    for path, record in sorted(records, key=lambda one: one[1]["command"] != "eval"):
        if record["command"] not in ("eval", "edit"):
            continue
        first = first or (path, record)
        _refuse_other_data(first, (path, record))
        config: EvalConfig | EditConfig
        if record["command"] == "eval":
            config = _recorded(EvalConfig, path, record, data)
            metrics |= scored[path].metrics
            _add_scored(arms, config, scored[path], runs_dir, notes)
        else:
            config = _recorded(EditConfig, path, record, data)
            if all(arm.outputs.run is None or arm.outputs.run != path.resolve() for arm in arms):
                arms.append(Arm(_unused(path.name, arms), _outputs_of_edits(path, record)))
        configs.append(config)
    if not configs:
        return None
    order = sorted(metrics, key=lambda key: key not in OF_SCENES)
    two = any(isinstance(config, EvalConfig) and compares_two(config) for config in configs)
    shown = {key: metrics[key] for key in order if _has_value(arms, key)}
    return Side(configs[0].data, configs, arms, shown, two, notes)


def _refuse_other_data(
    first: tuple[Path, Mapping[str, Any]], other: tuple[Path, Mapping[str, Any]]
) -> None:
    """Refuse two runs whose DATA has neither the name nor the fingerprint in common (RicError)."""
    one, another = first[1].get("data", {}), other[1].get("data", {})
    alike = (one.get(key) == another.get(key) for key in ("name", "fingerprint"))
    if not any(alike):
        raise RicError(
            f"{first[0].name} and {other[0].name} are over different data, which cannot stand side"
            " by side.",
            "Make a report of each.",
        )


def _recorded(
    kind: type[ConfigT], path: Path, record: Mapping[str, Any], data: str | None
) -> ConfigT:
    """Return the settings of a run as it recorded them (raises RicError if it cannot have)."""
    told = record["config"] | ({"data": data} if data else {})
    try:
        return recorded_config(kind, told)
    except RicError as error:
        raise RicError(f"{path / 'run.json'} cannot be read: {error.message}") from None


def _scored_runs(
    records: Sequence[tuple[Path, Mapping[str, Any]]],
) -> dict[Path, _ScoredRun]:
    """Read the scores of the eval runs among `records`, by their folders.

    Where several runs have a judge's score, each has a column, named by the judge and the run:
    two judges give different scores, and so does one by other prompts or another seed.
    """
    found = {
        path: {score.key: score for row in read_scores(path) for score in row.scores}
        for path, record in records
        if record["command"] == "eval"
    }
    counts = Counter(key for scores in found.values() for key in scores if key in JUDGED)
    alike = Counter(path.name for path in found)
    runs = {}
    for path, record in records:
        if path not in found:
            continue
        name = path.name if alike[path.name] == 1 else f"{path.parent.name}/{path.name}"
        columns = {key: f"{key} {name}" for key in found[path] if counts[key] > 1}
        metrics = dict(found[path])
        for key, column in columns.items():
            score = metrics.pop(key)
            metrics[column] = replace(score, marker=f"{score.marker}, {name}")
        runs[path] = _ScoredRun(path, record, columns, metrics)
    return runs


def _has_value(arms: Sequence[Arm], key: str) -> bool:
    return any(row.get(key) is not None for arm in arms for row in arm.rows.values())


def _add_scored(
    arms: list[Arm],
    config: EvalConfig,
    run: _ScoredRun,
    runs_dir: Path,
    notes: list[str],
) -> None:
    """Add the editors of an eval run, or their scores to arms that are there already."""
    path, record = run.path, run.record

    def resolve(reference: str) -> Path | None:
        return resolved_run(path, record, reference) or find_run(reference, runs_dir)

    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for row in read_lines(path / "per_sample.jsonl"):
        rows.setdefault(str(row.get("label")), {})[str(row.get("id"))] = row
    for text in config.edits:
        try:
            outputs = find_outputs(
                text, runs_dir, resolve, match=config.match, turns=turns_of(config)
            )
        except RicError as error:
            notes.append(f"{path.name} scored {text!r}, whose pictures are gone: {error.message}")
            continue
        scored = rows.get(outputs.label, {})
        same = next((arm for arm in arms if arm.outputs.folder == outputs.folder), None)
        if same is None:
            same = Arm(_unused(outputs.label, arms, path.name), outputs)
            arms.append(same)
        for name, row in scored.items():
            shown = {run.columns.get(key, key): value for key, value in row.items()}
            same.rows.setdefault(name, {}).update(shown)


def _unused(label: str, arms: Sequence[Arm], where: str = "again") -> str:
    """Return a label that no arm has yet."""
    taken = {arm.label for arm in arms}
    return label if label not in taken else f"{label} ({where})"


def _outputs_of_edits(path: Path, record: Mapping[str, Any]) -> Outputs:
    """Find the pictures of an edit run by its rows, which also know those of `--out`."""
    out, typed = record.get("out"), record["config"].get("out")
    files = {}
    for row in read_rows(path, "edits"):
        name = Path(str(row.get("file_name")))
        if out is not None and typed is not None and name.is_relative_to(typed):
            name = Path(out) / name.relative_to(typed)
        files[str(row["id"])] = path / name
    folder = path / "images"
    return Outputs(path.name, folder, files, path.resolve())


def _samples_of(config: EvalConfig | EditConfig, on_failure: OnFailure) -> Iterator[EditSample]:
    """Yield the samples that a run read; a photo to be edited is one without a target."""
    data = open_data(config, need_instruction=False)
    for photo in data.photos:
        pictures = Pictures(source=photo.path, mask=photo.mask, max_pixels=config.max_pixels)
        instruction = photo.instruction or getattr(config, "instruction", None) or ""
        yield EditSample(id=photo.id, instruction=instruction, pictures=pictures)
    if data.samples is None:
        return
    said = config.instruction if isinstance(config, EditConfig) else None
    for sample in data.samples.reporting(on_failure):
        yield dataclasses.replace(sample, instruction=said) if said else sample
