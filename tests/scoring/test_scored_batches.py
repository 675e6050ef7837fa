"""What `ric eval` has scored is kept: it goes on where it was stopped, and processes share one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from ric.config import EvalConfig, as_dict
from ric.errors import SampleError
from ric.interrupt import Interrupted
from ric.recipes.evaluate import evaluate
from ric.runs.claims import Claims
from ric.runs.open_run import open_run
from ric.scoring import score_batches as module
from ric.scoring.encode_once import SetRow
from ric.scoring.kept_samples import Kept
from ric.scoring.scored_batches import ScoredBatches

COUNT = 7
Told = tuple[dict[str, Any], list[dict[str, Any]], dict[str, str]]


@pytest.fixture(scope="module")
def data(make_edits: Callable[..., Path]) -> Path:
    return make_edits(COUNT)


@pytest.fixture(scope="module")
def outputs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What two editors made; the second one's pictures 01 and 04 are broken or not there."""
    edits = []
    for label, level in (("A", 60), ("B", 200)):
        folder = tmp_path_factory.mktemp(label)
        for number in range(COUNT):
            Image.new("RGB", (96, 80), (level, 9 * number, 90)).save(folder / f"{number:02d}.png")
        edits.append(f"{label}={folder}")
    (folder / "01.png").write_bytes(b"broken")
    (folder / "04.png").unlink()
    return tuple(edits)


@pytest.fixture(scope="module")
def config(tiny: Callable[..., EvalConfig], data: Path, outputs: tuple[str, ...]) -> EvalConfig:
    return tiny(EvalConfig, data, edits=outputs, split="all", batch_size=2, partial=True)


@pytest.fixture(scope="module")
def whole(config: EvalConfig, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What one process that is never stopped tells."""
    return told(score(config, tmp_path_factory.mktemp("whole") / "run"))


def score(config: EvalConfig, folder: Path, progress: Any = None) -> Path:
    with open_run("eval", as_dict(config), runs_dir=folder.parent, run=folder) as run:
        evaluate(config, run, progress)
    return folder


def told(run: Path) -> Told:
    scores = json.loads((run / "scores.json").read_text())
    rows = [json.loads(line) for line in (run / "per_sample.jsonl").read_text().splitlines()]
    failures = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    return scores, rows, {row["id"]: row["reason"] for row in failures}


def assert_same(ours: Told, theirs: Told) -> None:
    """Hold scores, rows and failures of two runs against each other, to 1e-6."""
    assert ours[2].keys() == theirs[2].keys()
    assert len(ours[1]) == len(theirs[1])
    for one, other in zip(ours[1], theirs[1], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    for one, other in zip(ours[0]["editors"], theirs[0]["editors"], strict=True):
        assert one["samples"] == other["samples"]
        for name, about in one["scores"].items():
            assert about["value"] == pytest.approx(
                other["scores"][name]["value"], abs=1e-6, rel=1e-6
            )


def test_a_batch_comes_back_to_the_bit_and_a_picture_s_features_lie_there_once(tmp_path):
    draw = np.random.default_rng(0)
    target = draw.random(900, np.float32)
    kept = {
        label: {
            "x": Kept(
                {"id": "x", "clip_i": 0.1 + 0.2, "dino": None, "text_cut": True},
                SetRow(draw.random(900, np.float32), None, target, None),
            )
        }
        for label in "ABCDEF"
    }
    stored = ScoredBatches(tmp_path / "scored")
    stored.write(3, ["x", "y"], kept, [SampleError("y", "edited", "it is gone")])
    (batch,) = ScoredBatches(tmp_path / "scored").read()
    assert batch.ids == ["x", "y"]
    assert [(one.sample_id, one.stage, one.reason) for one in batch.failures] == [
        ("y", "edited", "it is gone")
    ]
    for label, held in kept.items():
        back = batch.kept[label]["x"]
        assert back.row == held["x"].row
        np.testing.assert_array_equal(back.set_row.features, held["x"].set_row.features)
        np.testing.assert_array_equal(back.set_row.target_features, target)
        assert (back.set_row.logits, back.set_row.is_logits) == (None, None)
    (file,) = (tmp_path / "scored").glob("*.safetensors")
    assert file.stat().st_size < (6 + 1) * 900 * 4 + 1000


@pytest.mark.parametrize("count", [4, 8])
def test_batches_of_older_versions_are_read(tmp_path, count):
    parts = [np.full(3, number, np.float32) for number in range(8)]
    own = {"fd_dinov2": tuple(parts[4:6]), "cmmd": tuple(parts[6:])}
    stored = ScoredBatches(tmp_path / "scored")
    stored.write(0, ["x"], {"A": {"x": Kept({"id": "x"}, SetRow(*parts[:4], own))}})
    (file,) = (tmp_path / "scored").glob("*.json")
    batch = json.loads(file.read_text())
    del batch["sha256"]
    # they did not name the file of their tensors
    tensors_file = file.with_suffix(".safetensors")
    (file.parent / batch.pop("tensors")).rename(tensors_file)
    told = batch["kept"]["A"][0]
    *names, by_metric = told[1]
    # 0.1.0 listed four vectors, versions after it eight
    told[1] = [*names, *by_metric["fd_dinov2"], *by_metric["cmmd"]][:count]
    tensors = hashlib.sha256(tensors_file.read_bytes()).hexdigest()
    digest = hashlib.sha256(f"{json.dumps(batch)}{tensors}".encode()).hexdigest()
    file.write_text(json.dumps({**batch, "sha256": digest}))
    (read,) = stored.read()
    back = read.kept["A"]["x"].set_row
    found = [*back[:4], *back.compared("fd_dinov2"), *back.compared("cmmd")]
    assert [part is None or part[0] for part in found] == [
        number if number < count else True for number in range(8)
    ]


def test_batches_with_failures_are_dropped_alone_and_may_be_written_again(tmp_path):
    stored = ScoredBatches(tmp_path / "scored")
    stored.write(0, ["x"], {})
    stored.write(1, ["y"], {}, [SampleError("y", "edited", "it is gone")])
    assert (stored.done(), stored.has(1)) == ({"x"}, True)
    stored.drop_those_with_failures()
    again = ScoredBatches(tmp_path / "scored")
    assert (again.done(), again.has(0), again.has(1)) == ({"x"}, True, False)
    assert not again.is_damaged(1)
    again.write(1, ["y"], {})
    assert (again.done(), again.has(1)) == ({"x", "y"}, True)


def test_a_batch_that_a_full_disk_cuts_is_not_there_and_the_system_says_why(tmp_path):
    stored = ScoredBatches(tmp_path / "scored")
    features = SetRow(np.ones(5000, np.float32), None, None, None)
    kept = {"A": {"x": Kept({"id": "x"}, features)}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # as a full disk does, the system then writes a part and refuses the rest
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            stored.write(0, ["x"], kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "scored").iterdir()) == []
    stored.write(0, ["x"], kept)
    assert ScoredBatches(tmp_path / "scored").done() == {"x"}


def test_a_batch_that_is_damaged_anywhere_does_not_count(tmp_path):
    features = SetRow(np.ones(4, np.float32), None, None, None)
    stored = ScoredBatches(tmp_path / "scored")
    stored.write(0, ["x"], {})
    stored.write(1, ["y"], {"A": {"y": Kept({"id": "y", "clip_i": 0.25}, features)}})
    for file in sorted((tmp_path / "scored").glob("00000001*")):
        whole = file.read_bytes()
        others = [b"", b"7", b"[]", b"{}", b"[" * 100_000, b'{"sha256": 3}', b"\xff", whole[:-1]]
        if file.suffix == ".json":  # of the right kinds, but for one that stands deep inside
            others += [whole.replace(b"0.25", b'"a"'), whole.replace(b'"id": "y"', b'"id": ["y"]')]
        for place in range(0, len(whole), 5):
            others.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for harmed in others:
            file.write_bytes(harmed)
            assert stored.done() == {"x"}, harmed[:200]
            assert (stored.has(1), stored.is_damaged(1)) == (False, True)
            assert [batch.ids for batch in stored.read()] == [["x"]]
        file.write_bytes(whole)
    assert stored.done() == {"x", "y"}


def test_an_interrupted_evaluation_goes_on_after_the_last_batch_and_ends_as_a_whole_one(
    config, whole, tmp_path, stop_after, monkeypatch
):
    decode, decoded = module.decode_outputs, []

    def watched(sample, **named):
        decoded.append(sample.id)
        return decode(sample, **named)

    monkeypatch.setattr(module, "decode_outputs", watched)
    with pytest.raises(Interrupted):
        score(config, tmp_path / "run", stop_after("scoring", 2))
    assert not (tmp_path / "run" / "scores.json").exists()
    kept = ScoredBatches(next((tmp_path / "run" / "scored").iterdir())).done()
    assert kept == {"00", "02", "03"}  # 01 has a failure
    decoded.clear()
    run = score(config, tmp_path / "run")
    # a batch is scored again whole, since one of it failed
    assert decoded == ["00", "01", "04", "05", "06"]
    scores, rows, failures = told(run)
    assert rows == whole[1]
    assert scores["editors"] == whole[0]["editors"]
    assert failures == whole[2]
    assert not (run / "scored").exists()
    assert whole[2].keys() == {"01", "04"}


def test_outputs_that_changed_meanwhile_are_scored_anew(config, outputs, tmp_path, stop_after):
    copies = []
    for text in outputs:
        label, _, folder = text.partition("=")
        copies.append(f"{label}={shutil.copytree(folder, tmp_path / label)}")
    changing = replace(config, edits=tuple(copies))
    with pytest.raises(Interrupted):
        score(changing, tmp_path / "run", stop_after("scoring", 2))
    for file in (tmp_path / "A").iterdir():
        Image.new("RGB", (96, 80), "white").save(file)
    mended = told(score(changing, tmp_path / "run"))
    assert_same(mended, told(score(changing, tmp_path / "whole")))


def test_targets_and_networks_that_changed_meanwhile_are_scored_anew(
    config, data, tiny_family, tmp_path, stop_after
):
    changing = replace(config, data=str(shutil.copytree(data, tmp_path / "data")))
    changing = replace(changing, clip=str(shutil.copytree(tiny_family / "clip", tmp_path / "clip")))
    with pytest.raises(Interrupted):
        score(changing, tmp_path / "run", stop_after("scoring", 2))
    Image.new("RGB", (96, 80), "red").save(tmp_path / "data/target/00.png")
    with pytest.raises(Interrupted):
        score(changing, tmp_path / "run", stop_after("scoring", 2))
    weights = tmp_path / "clip/model.safetensors"
    tensors = load_file(weights)
    tensors["visual_projection.weight"] += 1
    save_file(tensors, weights)
    mended = told(score(changing, tmp_path / "run"))
    assert_same(mended, told(score(changing, tmp_path / "whole")))


def test_a_source_that_was_mended_meanwhile_is_scored_and_no_failure(
    config, data, tmp_path, stop_after
):
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / "source" / "00.png").write_bytes(b"broken")
    changing = replace(config, data=str(folder))
    with pytest.raises(Interrupted):
        score(changing, tmp_path / "run", stop_after("scoring", 2))
    shutil.copy(data / "source" / "00.png", folder / "source" / "00.png")
    _, rows, failures = told(score(changing, tmp_path / "run"))
    assert failures.keys() == {"01", "04"}
    assert len([row for row in rows if row["label"] == "A"]) == COUNT


# A process that leaves in a folder which samples it has decoded. `wait` and `stall` hold it at its
# first one: until another process has decoded one, and for ever.
WATCHED = """
import json, os, sys, time
from pathlib import Path
from ric.scoring import score_batches
from ric_cli.main import main
folder, how = Path(sys.argv.pop(1)), sys.argv.pop(1)
name = os.environ.get("RANK") or str(os.getpid())
decode, decoded = score_batches.decode_outputs, []
def watched(sample, **named):
    decoded.append(sample.id)
    (folder / f"{name}.json").write_text(json.dumps(decoded))
    while how == "stall" or how == "wait" and len(list(folder.glob("*.json"))) < 2:
        time.sleep(0.02)
    return decode(sample, **named)
score_batches.decode_outputs = watched
main()
"""


@pytest.fixture
def watched(config, tmp_path) -> Callable[..., list[str]]:
    """The words of a process that scores into the run `two`, and leaves in `seen` what it has."""
    named = {key: value for key, value in as_dict(config).items() if value is not None}
    (tmp_path / "settings.yaml").write_text(json.dumps(named))
    (tmp_path / "watched.py").write_text(WATCHED)
    (tmp_path / "seen").mkdir()
    script = [str(tmp_path / "watched.py"), str(tmp_path / "seen")]
    typed = ["eval", *config.edits, "--data", config.data, "--run", str(tmp_path / "two")]
    typed += ["--config", str(tmp_path / "settings.yaml"), "--json"]
    return lambda how: [*script, how, *typed]


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def seen(folder: Path) -> list[set[str]]:
    return [set(json.loads(file.read_text())) for file in sorted(folder.iterdir())]


def test_two_processes_of_torchrun_divide_the_batches_and_give_the_numbers_of_one(
    config, whole, watched, tmp_path
):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--")
    _, said = start(*torchrun, *watched("go on")).communicate(timeout=300)
    assert "exitcode  : 3" in said, said  # some samples failed
    assert seen(tmp_path / "seen") == [{"00", "01", "04", "05"}, {"02", "03", "06"}]
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    assert told(tmp_path / "two") == whole


def test_processes_that_share_a_run_score_each_batch_once_and_give_the_numbers_of_one(
    config, whole, watched, tmp_path
):
    both = [start(*watched("wait")) for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [3, 3], said
    assert [json.loads(out)["failures"] for out, _ in said] == [2, 2]
    first, second = seen(tmp_path / "seen")
    assert first
    assert second
    assert not first & second
    assert first | second == {f"{number:02d}" for number in range(COUNT)}
    assert told(tmp_path / "two") == whole
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert record["status"] == "done"
    assert {"weights", "data"} <= record.keys()
    assert not {"scored", "claims"} & {path.name for path in (tmp_path / "two").iterdir()}


def test_what_a_killed_process_had_begun_is_scored_by_the_one_that_waits_for_it(
    config, whole, watched, tmp_path
):
    killed = start(*watched("stall"))
    wait_until(lambda: list((tmp_path / "seen").iterdir()))
    other = start(*watched("go on"))
    # it has nothing left to do but to wait
    wait_until(lambda: list((tmp_path / "two" / "scored").glob("*/*.json")))
    killed.kill()
    killed.communicate()
    _, said = other.communicate(timeout=300)
    assert other.returncode == 3, said
    assert told(tmp_path / "two") == whole
    assert json.loads((tmp_path / "two" / "run.json").read_text())["status"] == "done"


def score_shared(config: EvalConfig, folder: Path) -> Path:
    with open_run("eval", as_dict(config), runs_dir=folder.parent, run=folder, shared=True) as run:
        evaluate(config, run)
    return folder


def test_a_batch_that_others_scored_since_this_process_looked_is_left_as_it_is(
    config, whole, tmp_path, stop_after, monkeypatch
):
    with pytest.raises(Interrupted):
        score(config, tmp_path / "two", stop_after("scoring", 2))
    monkeypatch.setattr(ScoredBatches, "done", lambda stored: set())  # it looked long ago
    decode, decoded = module.decode_outputs, []

    def watched(sample, **named):
        decoded.append(sample.id)
        return decode(sample, **named)

    monkeypatch.setattr(module, "decode_outputs", watched)
    run = score_shared(config, tmp_path / "two")
    assert decoded == ["00", "01", "04", "05", "06"]  # 01 has a failure
    monkeypatch.undo()
    assert told(run) == whole


def test_failures_are_not_forgotten_where_a_process_dies_after_the_tables(config, whole, tmp_path):
    settings, two = as_dict(config), tmp_path / "two"
    killed = open_run("eval", settings, runs_dir=tmp_path, run=two, shared=True)
    killed.__enter__()
    evaluate(config, killed)
    killed._beating.close()
    killed.claims.leave()  # and no word of how it ended
    assert told(score_shared(config, two)) == whole


def test_two_states_of_the_outputs_are_two_evaluations_and_neither_waits_for_the_other(
    config, whole, outputs, watched, tmp_path
):
    held = start(*watched("stall"))
    wait_until(lambda: list((tmp_path / "seen").iterdir()))
    os.utime(Path(outputs[0].partition("=")[2]) / "00.png")
    other = start(*watched("go on"))
    _, said = other.communicate(timeout=300)
    assert other.returncode == 3, said
    held.kill()
    held.communicate()
    assert told(score_shared(config, tmp_path / "two")) == whole


def test_another_process_s_batch_that_is_damaged_is_scored_again(
    config, whole, tmp_path, monkeypatch
):
    take = Claims.take

    def refuse(claims: Claims, *ids: str) -> bool:
        if not re.fullmatch(r"\n\w+ 1", ids[0]):
            return take(claims, *ids)
        (folder,) = (tmp_path / "two" / "scored").iterdir()
        if not (folder / "00000001.json").exists():
            (folder / "00000001.json").write_text("{}")
        return False  # its process is alive, and waits for the tables

    monkeypatch.setattr(Claims, "take", refuse)
    with open_run(
        "eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "two", shared=True
    ) as run:
        evaluate(config, run)
    assert told(tmp_path / "two") == whole


def wait_until(happened: Callable[[], Any]) -> None:
    ends = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_what_a_killed_process_left_half_written_is_passed_over(
    config, whole, tmp_path, stop_after
):
    with pytest.raises(Interrupted):
        score(config, tmp_path / "run", stop_after("scoring", 1))
    (scored,) = (tmp_path / "run" / "scored").iterdir()
    (tensors,) = scored.glob("00000000-*.safetensors")
    shutil.copy(tensors, scored / tensors.name.replace("00000000", "00000001"))
    (scored / ".00000002.99").write_bytes(b"half")
    assert_same(told(score(config, tmp_path / "run")), whole)
