"""Damaged runs: run.json, metrics.jsonl, rows, claims and checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import FEWER, ODD_VALUES, Bounds, altered, fuzzed, mutated
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ric.runs.provenance
from ric.config import EditConfig, EvalConfig, as_dict
from ric.errors import SampleError
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.report import report
from ric.recipes.runs import join_shards
from ric.report.chain import read_chain
from ric.report.curves import Panel, draw_curves
from ric.runs.checkpoints import last_checkpoint, load_checkpoint, save_checkpoint
from ric.runs.open_run import open_run
from ric.runs.record import (
    artifact_of,
    find_run,
    list_runs,
    parents_of,
    read_record,
    resolved_run,
    status_of,
)
from ric.runs.rows import read_rows
from ric.training.loop import TrainState

CONFIG = {"data": "scenes:9@64#1", "preset": "tiny", "shard": "1/1"}


@pytest.fixture(autouse=True)
def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what a process of its own is asked for."""
    monkeypatch.setattr(ric.runs.provenance, "environment_report", lambda folder: {})


def write_run(folder: Path) -> Path:
    with open_run("describe", CONFIG, runs_dir=folder, run=folder / "00001-describe") as run:
        run.append("descriptions", {"id": "a", "scene_text": "a field"})
        run.fail(SampleError("b", "source", "gone"))
        run.log_metrics({"step": 1, "loss": 0.5})
        run.log_metrics({"step": 2, "loss": 0.4})
        run.note(data={"name": "scenes", "fingerprint": "f"}, resolved={"@fit-clip": "../x"})
        run.note(weights={"unet": {"id": "tiny", "revision": None}}, parents=["../x"])
    return run.path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs" / made.name))


def test_a_damaged_run_json_is_read_within_what_its_readers_take_or_refused(
    run: Path, made: Path, bounds: Bounds
):
    whole = (made / "run.json").read_bytes()
    records = altered(json.loads(whole)).map(lambda one: json.dumps(one).encode())

    @fuzzed
    @given(record=st.one_of(records, records, mutated([whole])))
    def read(record: bytes) -> None:
        (run / "run.json").write_bytes(record)
        with bounds.held():
            found = read_record(run)
            status_of(found, run)
            parents_of(run, found)
            resolved_run(run, found, "@fit-clip")
        for look in (
            lambda: list_runs(run.parent),
            lambda: find_run("@describe", run.parent),
            lambda: find_run("1", run.parent),
            lambda: artifact_of(run, "descriptions.jsonl"),
            lambda: read_chain([run]),
        ):
            with bounds.held():
                look()

    read()


def test_a_damaged_run_is_gone_on_with_joined_or_refused(run: Path, made: Path, bounds: Bounds):
    whole, rows = (made / "run.json").read_bytes(), (made / "descriptions.jsonl").read_bytes()
    records = altered(json.loads(whole)).map(lambda one: json.dumps(one).encode())

    @fuzzed
    @given(record=st.one_of(st.just(whole), records), lines=mutated([rows + rows]))
    def go_on(record: bytes, lines: bytes) -> None:
        for path in run.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (run / "run.json").write_bytes(record)
        (run / "descriptions.jsonl").write_bytes(lines)
        (run / "descriptions-other.1.jsonl").write_bytes(lines)
        joined = run.parent / "joined"
        shutil.rmtree(joined, ignore_errors=True)
        with bounds.held():
            join_shards([run], runs_dir=run.parent, run=joined)
        with bounds.held(), open_run("describe", CONFIG, runs_dir=run.parent, run=run) as opened:
            opened.append("descriptions", {"id": "z"})
        assert all(isinstance(row["id"], str) for row in read_rows(run, "descriptions"))

    go_on()


JUDGE = {
    "back_end": "chat", "model": "tiny", "revision": None, "seed": 0, "swapped": True,
    "questions": 4, "malformed": {"no JSON": 1}, "unanswered": 0,
    "position_bias": {"scene": {"mean": 0.5, "low": None, "high": 1.0, "equal": 0.5, "n": 2}},
    "agreement": {
        "run": "00007-eval", "model": "other",
        "metrics": {
            "vlm_scene": {"spearman": None, "kendall": 0.2, "mean_difference": 0.1, "n": 2}
        },
    },
}  # fmt: skip
DRAWN = {"data": "scenes:8@64#5", "preset": "tiny", "limit": 2, "split": "all"}


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an edit run and an eval run of it, whose record has all that one can have."""
    folder = tmp_path_factory.mktemp("scored")
    unedited = EditConfig(**DRAWN, editor="none")
    with open_run("edit", as_dict(unedited), runs_dir=folder, run=folder / "edits") as made:
        edit(unedited, made)
    config = EvalConfig(**DRAWN, edits=(f"A={folder / 'edits'}",), metrics="l1")
    with open_run("eval", as_dict(config), runs_dir=folder, run=folder / "scores") as made:
        evaluate(config, made)
        made.note(judge=JUDGE, weights={"unet": {"id": "tiny", "revision": None}})
        made.note(environment={"git": None, "versions": {"ric": "1"}, "gpus": ["one"]})
    return folder


def test_a_run_json_is_shown_in_a_report_and_scored_on_or_refused(
    scored: Path, tmp_path: Path, bounds: Bounds
):
    records = {name: json.loads((scored / name / "run.json").read_text())
               for name in ("edits", "scores")}  # fmt: skip
    places = {"edits": ("config", "data"), "scores": ("judge", "config", "weights")}
    whole = EvalConfig(**DRAWN, edits=(f"A={scored / 'edits'}",), metrics="l1")

    @st.composite
    def damaged(draw: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
        name = draw(st.sampled_from(("edits", "scores")))
        record = records[name]
        if draw(st.booleans()):
            return name, draw(altered(record))
        part = draw(st.sampled_from(places[name]))
        if draw(st.booleans()):
            return name, record | {part: draw(ODD_VALUES)}
        return name, record | {part: draw(altered(record[part]))}

    @settings(fuzzed, max_examples=FEWER * 2)
    @given(one=damaged())
    @example(one=("scores", records["scores"] | {"judge": []}))
    @example(one=("scores", records["scores"] | {"judge": "x"}))
    @example(one=("scores", records["scores"] | {"judge": {}}))
    @example(
        one=("scores", records["scores"] | {"config": records["scores"]["config"] | {"edits": 3}})
    )
    @example(
        one=("edits", records["edits"] | {"config": records["edits"]["config"] | {"out": [1]}})
    )
    def read(one: tuple[str, dict[str, Any]]) -> None:
        folder = tmp_path / "runs"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(scored, folder)
        name, record = one
        (folder / name / "run.json").write_text(json.dumps(record))
        with bounds.held():
            report(
                [str(folder / "edits"), str(folder / "scores")], tmp_path / "page", runs_dir=folder
            )
        if name == "scores":
            (folder / name / "run.json").write_text(json.dumps(record | {"status": "failed"}))
            with bounds.held():
                run = open_run("eval", as_dict(whole), runs_dir=folder, run=folder / "scores")
                with run:
                    evaluate(whole, run)

    try:
        read()
    finally:
        torch.set_num_threads(1)


METRICS = "".join(json.dumps({"step": n, "loss": 1 / (n + 1), "lr": 1e-3}) + "\n" for n in range(4))


def test_damaged_metrics_are_read_cut_and_drawn(run: Path, tmp_path: Path, bounds: Bounds):
    rows = st.lists(
        st.one_of(altered({"step": 1, "loss": 0.5, "lr": 1e-3}), ODD_VALUES), min_size=1, max_size=3
    )
    lines = rows.map(lambda found: "".join(json.dumps(row) + "\n" for row in found).encode())
    bounds.refused += 1  # it refuses none: damaged rows are left out

    @settings(fuzzed, max_examples=FEWER)
    @given(content=st.one_of(lines, mutated([METRICS.encode()])))
    def read(content: bytes) -> None:
        (tmp_path / "training").mkdir(exist_ok=True)
        (tmp_path / "training" / "run.json").unlink(missing_ok=True)
        for file in (tmp_path / "training").iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        with bounds.held(), open_run("x", {}, runs_dir=tmp_path, run=tmp_path / "training") as one:
            (one.path / "metrics.jsonl").write_bytes(content)
            assert all(isinstance(row, dict) for row in one.metrics())
            draw_curves(one, [Panel("loss", "loss|lr")])
            one.forget_metrics_after(2)
            one.log_metrics({"step": 3, "loss": 0.1})
            assert one.metrics()[-1]["step"] == 3

    read()


class Plain:
    """A run of a training, as far as its checkpoints go."""

    def __init__(self, path: Path) -> None:
        self.path = path


def test_a_damaged_checkpoint_is_passed_over_or_refused_whether_it_has_digests_or_not(
    tmp_path: Path, bounds: Bounds
):
    weights = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(3)}
    run, signed = Plain(tmp_path), tmp_path / "signed"
    save_checkpoint(signed, 1, {"model": weights, "moments": {}}, {"keep": 1}, keep=1)
    kept = {file.name: file.read_bytes() for file in (signed / "step-000001").iterdir()}
    state = json.loads(kept["state.json"])
    older = {key: state[key] for key in state if not key.startswith("sha256")}
    states = altered(older).map(lambda one: json.dumps(one).encode())
    files = st.one_of(
        st.tuples(st.just("state.json"), st.one_of(states, states, mutated([kept["state.json"]]))),
        st.tuples(st.just("model.safetensors"), mutated([kept["model.safetensors"]])),
    )

    @fuzzed
    @given(damaged=files, is_older=st.booleans())
    def resume(damaged: tuple[str, bytes], is_older: bool) -> None:
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        folder = tmp_path / "checkpoints" / "step-000001"
        folder.mkdir(parents=True)
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        name, content = damaged
        if is_older and name != "state.json":
            facts = older | {"files": older["files"] | {name: len(content)}}
            (folder / "state.json").write_text(json.dumps(facts))
        (folder / name).write_bytes(content)
        with bounds.held():
            found = last_checkpoint(run)  # type: ignore[arg-type]
            assert found is not None
            parameters = {key: torch.nn.Parameter(value.clone()) for key, value in weights.items()}
            TrainState(named=parameters).resume(found)
            load_checkpoint(found)

    try:
        resume()
    finally:
        torch.set_num_threads(1)


def test_damaged_claims_are_free_or_held_but_never_an_error(tmp_path: Path, bounds: Bounds):
    claim = json.dumps({"host": "node", "place": "1f", "pid": 1, "started": 5}).encode()
    bounds.refused += 1  # it refuses none

    @fuzzed
    @given(
        content=st.one_of(mutated([claim]), ODD_VALUES.map(lambda one: json.dumps(one).encode()))
    )
    def take(content: bytes) -> None:
        path = tmp_path / "run"
        shutil.rmtree(path, ignore_errors=True)
        with open_run("edit", {}, runs_dir=tmp_path, run=path, shared=True) as one:
            one.claims.take("a", "b")
            for file in (path / "claims").rglob("*"):
                if file.is_file():
                    file.write_bytes(content)
            with bounds.held():
                one.claims.take("a", "b", "c")
                one.claims.at_work()

    take()
