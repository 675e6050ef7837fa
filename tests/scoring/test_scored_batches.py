"""What `ric eval` has scored is kept: it goes on where it was stopped, and processes share one."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
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
from ric.recipes import evaluate as module
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring.encode_once import SetRow
from ric.scoring.kept_samples import Kept
from ric.scoring.scored_batches import ScoredBatches

COUNT = 7


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


@pytest.fixture
def config(tiny: Callable[..., EvalConfig], data: Path, outputs: tuple[str, ...]) -> EvalConfig:
    return tiny(EvalConfig, data, edits=outputs, split="all", batch_size=2, partial=True)


def score(config: EvalConfig, folder: Path, progress: Any = None) -> Path:
    with open_run("eval", as_dict(config), runs_dir=folder.parent, run=folder) as run:
        evaluate(config, run, progress)
    return folder


def told(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, str]]:
    scores = json.loads((run / "scores.json").read_text())
    rows = [json.loads(line) for line in (run / "per_sample.jsonl").read_text().splitlines()]
    failures = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    return scores, rows, {row["id"]: row["reason"] for row in failures}


def assert_same(ours: tuple, theirs: tuple) -> None:
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
    stored = ScoredBatches(tmp_path / "scored", 3)
    stored.write(["x", "y"], kept, [SampleError("y", "edited", "it is gone")])
    (batch,) = ScoredBatches(tmp_path / "scored", 0).read()
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
    stored.write(["x"], {"A": {"x": Kept({"id": "x"}, SetRow(*parts[:4], own))}})
    (file,) = (tmp_path / "scored").glob("*.json")
    batch = json.loads(file.read_text())
    del batch["sha256"]
    told = batch["kept"]["A"][0]
    *names, by_metric = told[1]
    # 0.1.0 listed four vectors, versions after it eight
    told[1] = [*names, *by_metric["fd_dinov2"], *by_metric["cmmd"]][:count]
    tensors = hashlib.sha256(file.with_suffix(".safetensors").read_bytes()).hexdigest()
    digest = hashlib.sha256(f"{json.dumps(batch)}{tensors}".encode()).hexdigest()
    file.write_text(json.dumps({**batch, "sha256": digest}))
    (read,) = stored.read()
    back = read.kept["A"]["x"].set_row
    found = [*back[:4], *back.compared("fd_dinov2"), *back.compared("cmmd")]
    assert [part is None or part[0] for part in found] == [
        number if number < count else True for number in range(8)
    ]


def test_a_batch_without_its_rows_does_not_count_and_its_number_is_not_used_again(tmp_path):
    stored = ScoredBatches(tmp_path / "scored", 0)
    stored.write(["x"], {})
    stored.write(["y"], {})
    (tmp_path / "scored" / "000-000001.json").unlink()
    again = ScoredBatches(tmp_path / "scored", 0)
    assert again.done() == {"x"}
    again.write(["z"], {})
    assert again.done() == {"x", "z"}


def test_a_batch_that_a_full_disk_cuts_is_not_there_and_the_system_says_why(tmp_path):
    stored = ScoredBatches(tmp_path / "scored", 0)
    features = SetRow(np.ones(5000, np.float32), None, None, None)
    kept = {"A": {"x": Kept({"id": "x"}, features)}}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # as a full disk does, the system then writes a part and refuses the rest
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            stored.write(["x"], kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "scored").iterdir()) == []
    stored.write(["x"], kept)
    assert ScoredBatches(tmp_path / "scored", 0).done() == {"x"}


def test_a_batch_that_is_damaged_anywhere_does_not_count(tmp_path):
    features = SetRow(np.ones(4, np.float32), None, None, None)
    stored = ScoredBatches(tmp_path / "scored", 0)
    stored.write(["x"], {})
    stored.write(["y"], {"A": {"y": Kept({"id": "y", "clip_i": 0.25}, features)}})
    for file in (tmp_path / "scored").glob("000-000001.*"):
        whole = file.read_bytes()
        others = [b"", b"7", b"[]", b"{}", b"[" * 100_000, b'{"sha256": 3}', b"\xff", whole[:-1]]
        if file.suffix == ".json":  # of the right kinds, but for one that stands deep inside
            others += [whole.replace(b"0.25", b'"a"'), whole.replace(b'"id": "y"', b'"id": ["y"]')]
        for place in range(0, len(whole), 5):
            others.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for harmed in others:
            file.write_bytes(harmed)
            assert stored.done() == {"x"}, harmed[:200]
            assert [batch.ids for batch in stored.read()] == [["x"]]
        file.write_bytes(whole)
    assert stored.done() == {"x", "y"}


def test_an_interrupted_evaluation_goes_on_after_the_last_batch_and_ends_as_a_whole_one(
    config, tmp_path, stop_after, monkeypatch
):
    whole = told(score(config, tmp_path / "whole"))
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


# leaves which samples a process has decoded in a folder
WATCHED = """
import json, os, sys
from pathlib import Path
from ric.recipes import evaluate
from ric_cli.main import main
folder = Path(sys.argv.pop(1))
decode, decoded = evaluate.decode_outputs, []
def watched(sample, **named):
    decoded.append(sample.id)
    return decode(sample, **named)
evaluate.decode_outputs = watched
try:
    main()
finally:
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(decoded))
"""


def test_two_processes_give_the_numbers_of_one_to_1e_6(config, tmp_path):
    settings = tmp_path / "settings.yaml"
    named = {key: value for key, value in as_dict(config).items() if value is not None}
    settings.write_text(json.dumps(named))
    (tmp_path / "watched.py").write_text(WATCHED)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--",
         str(tmp_path / "watched.py"), str(tmp_path), "eval", *config.edits, "--data", config.data,
         "--config", str(settings), "--run", str(tmp_path / "two"), "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "exitcode  : 3" in done.stderr, done.stderr  # some samples failed
    ranks = [set(json.loads((tmp_path / f"{rank}.json").read_text())) for rank in (0, 1)]
    assert ranks == [{"00", "02", "04", "06"}, {"01", "03", "05"}]
    assert json.loads((tmp_path / "two" / "run.json").read_text())["processes"] == 2
    assert_same(told(tmp_path / "two"), told(score(config, tmp_path / "one")))


def test_what_a_killed_process_left_half_written_is_passed_over(config, tmp_path, stop_after):
    with pytest.raises(Interrupted):
        score(config, tmp_path / "run", stop_after("scoring", 1))
    (scored,) = (tmp_path / "run" / "scored").iterdir()
    shutil.copy(scored / "000-000000.safetensors", scored / "000-000001.safetensors")
    (scored / ".000-000002.99").write_bytes(b"half")
    assert_same(told(score(config, tmp_path / "run")), told(score(config, tmp_path / "whole")))
