"""`ric eval --group-by` and `--fid-set`: parts of the samples, and another set for FID."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ric.config import EvalConfig, as_dict
from ric.metric_table import metrics_of
from ric.metrics.clip_features import ClipFeatures
from ric.metrics.cmmd import cmmd_from_features
from ric.metrics.fid import jackknife_fid
from ric.metrics.kid import kid_from_features
from ric.metrics.scene_net import SceneNet
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring.read_scores import read_groups

COUNT = 6
TYPES = ["Add", "Remove", "Add", None, "Remove", "Add"]
# of the picture's 96 x 80, so that the masks cover 2, 12 and 40 % of it, twice each
BOXES = [(0, 0, 15, 9), (0, 0, 23, 37), (0, 0, 47, 63)] * 2


@pytest.fixture(scope="module")
def data(make_edits: Callable[..., Path]) -> Path:
    folder = make_edits(COUNT, {n: {"editing_type": kind} for n, kind in enumerate(TYPES)})
    for number, box in enumerate(BOXES):
        mask = Image.new("L", (96, 80))
        ImageDraw.Draw(mask).rectangle(box, fill=255)
        mask.save(folder / "mask" / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    for number in range(COUNT):
        Image.new("RGB", (96, 80), (30 * number, 90, 120)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def score(tiny, data, outputs, tmp_path) -> Callable[..., Path]:
    def call(**changes: Any) -> Path:
        config = tiny(EvalConfig, data, edits=(f"Mine={outputs}",), split="all", **changes)
        with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run") as run:
            evaluate(config, run)
        return run.path

    return call


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("editing-type", {"Add": [0, 2, 5], "Remove": [1, 4], "no type": [3]}),
        (
            "region-size",
            {
                "region up to 5 %": [0, 3],
                "region of 5 to 20 %": [1, 4],
                "region over 20 %": [2, 5],
            },
        ),
    ],
)
def test_each_group_is_scored_as_if_its_samples_were_all(by, groups, score, data, outputs):
    run = score(group_by=by)
    told = json.loads((run / "scores.json").read_text())
    per_sample = [json.loads(line) for line in (run / "per_sample.jsonl").read_text().splitlines()]
    assert list(told["groups"]) == list(groups)
    lines = list(csv.DictReader((run / "table.csv").open()))
    for name, places in groups.items():
        ids = {f"{place:02d}" for place in places}
        rows = [row for row in per_sample if row["label"] == "Mine" and row["id"] in ids]
        assert {row["group"] for row in rows} == {name}
        editors = {row["label"]: row for row in told["groups"][name]["editors"]}
        assert list(editors) == ["Mine", "Identity (source)", "Ground truth"]
        mine = editors["Mine"]["scores"]
        for key, column in (("clip_i[tiny]", "clip_i"), ("l1", "l1")):
            assert mine[key]["n"] == len(places)
            assert mine[key]["value"] == pytest.approx(np.mean([row[column] for row in rows]))
        line = next(
            row for row in lines
            if (row["group"], row["label"], row["metric"]) == (name, "Mine", "l1")
        )  # fmt: skip
        assert float(line["value"]) == pytest.approx(mine["l1"]["value"])
        assert f"## {name}\n" in (run / "table.md").read_text()
    assert {row["n"] for row in lines if (row["group"], row["metric"]) == ("", "l1")} == {"6"}
    shown = read_groups(run)
    assert list(shown) == list(groups)
    assert [row["l1"].n for rows in shown.values() for row in rows[:1]] == [
        len(places) for places in groups.values()
    ]
    last = (run / "table.md").read_text().splitlines()[-1]  # once, below all groups
    assert last.startswith("- weights of scene_classifier: tiny, SHA-256 ")


def test_without_groups_no_group_is_told(score):
    run = score()
    assert json.loads((run / "scores.json").read_text())["groups"] == {}
    assert "##" not in (run / "table.md").read_text()


def test_fid_and_kid_are_taken_to_the_pictures_of_another_folder(
    score, outputs, tiny_family, tmp_path
):
    others = tmp_path / "others"
    others.mkdir()
    draw = np.random.default_rng(0)
    for number in range(9):
        noise = draw.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(others / f"{number}.png")
    (others / "broken.png").write_bytes(b"no picture")
    run = score(fid_set=str(others), batch_size=4)
    (others / "broken.png").unlink()
    net = SceneNet(tiny_family / "scene_classifier", torch.device("cpu"))
    ours, theirs = (
        net.set_features([Image.open(file).convert("RGB") for file in sorted(folder.iterdir())])[0]
        for folder in (outputs, others)
    )
    fid = jackknife_fid(ours.numpy(), theirs.numpy(), paired=False)
    kid = kid_from_features(ours.numpy(), theirs.numpy(), paired=False)
    scores = json.loads((run / "scores.json").read_text())["editors"][0]["scores"]
    assert scores["fid[scene-net]"]["value"] == pytest.approx(fid.value, rel=1e-4)
    low, high = (scores["fid[scene-net]"][end] for end in ("low", "high"))
    assert (low, high) == pytest.approx(fid.interval, rel=1e-3)
    assert scores["kid[scene-net]"]["value"] == pytest.approx(kid.value, rel=1e-4)
    assert scores["kid[scene-net]"]["low"] == pytest.approx(kid.interval[0], rel=1e-3)
    assert f"edited set and the 9 pictures of {others}" in scores["fid[scene-net]"]["definition"]
    assert "6 edits and 9 pictures" in scores["fid[scene-net]"]["note"]
    assert "in pairs" not in scores["kid[scene-net]"].get("note", "")
    (failed,) = [json.loads(line) for line in (run / "failures.jsonl").open()]
    assert (failed["id"], failed["stage"]) == ("broken.png", "fid-set")


def test_further_distances_are_taken_to_another_folder_and_by_name_alone(
    score, outputs, tiny_family, data
):
    others = data / "source"
    run = score(fid_set=str(others), batch_size=4, metrics="cmmd,fd_dinov2,dinov2")
    images = [
        [Image.open(file).convert("RGB") for file in sorted(folder.iterdir())]
        for folder in (outputs, others)
    ]
    net, clip = SceneNet(tiny_family / "scene_classifier"), ClipFeatures(tiny_family / "clip")
    ours, theirs = (net.set_features(some)[0].numpy() for some in images)
    told = json.loads((run / "scores.json").read_text())
    scores = told["editors"][0]["scores"]
    assert list(scores) == [
        "fd_dinov2[scene-net]", "cmmd[tiny]", "dinov2_source[scene-net]", "dinov2[scene-net]"
    ]  # fmt: skip
    fid = jackknife_fid(ours, theirs, paired=False)
    assert scores["fd_dinov2[scene-net]"]["value"] == pytest.approx(fid.value, rel=1e-4)
    ours, theirs = (clip.set_features(some)[0].numpy() for some in images)
    cmmd = cmmd_from_features(ours, theirs, paired=False)
    assert scores["cmmd[tiny]"]["value"] == pytest.approx(cmmd.value, rel=1e-4)
    assert f"the {len(images[1])} pictures of {others}" in scores["cmmd[tiny]"]["definition"]
    assert "ranks" not in scores["cmmd[tiny]"]  # no editor meets its own target
    weights = json.loads((run / "run.json").read_text())["weights"]
    assert set(weights) == {"cmmd", "scene_classifier"}
    assert not {"dinov2", "fd_dinov2", "cmmd"} & set(metrics_of(EvalConfig(metrics="all")))


def test_a_group_that_an_editor_lacks_a_sample_of_has_its_own_dagger_and_no_best(
    score, outputs, tiny, data, tmp_path
):
    some = tmp_path / "some"
    some.mkdir()
    for number in (0, 1, 2, 3, 4):  # 05 is of the group Add
        (some / f"{number:02d}.png").write_bytes((outputs / f"{number:02d}.png").read_bytes())
    edits = (f"All={outputs}", f"Some={some}")
    config = tiny(EvalConfig, data, edits=edits, split="all", partial=True, group_by="editing-type")
    with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run") as run:
        evaluate(config, run)
    groups = json.loads((run.path / "scores.json").read_text())["groups"]
    counted = {
        name: [(row["samples"], row["samples_shared"]) for row in group["editors"][:2]]
        for name, group in groups.items()
    }
    assert counted == {
        "Add": [(3, 2), (2, 2)], "Remove": [(2, 2), (2, 2)], "no type": [(1, 1), (1, 1)]
    }  # fmt: skip


def test_editors_differ_in_fid_to_another_set_on_the_samples_that_both_have(
    outputs, tiny, data, tmp_path
):
    edits = []
    for label, gone in (("A", 0), ("B", 1)):
        folder = tmp_path / label
        folder.mkdir()
        for number in set(range(COUNT)) - {gone}:
            file = f"{number:02d}.png"
            (folder / file).write_bytes((outputs / file).read_bytes())
        edits.append(f"{label}={folder}")
    config = tiny(EvalConfig, data, edits=tuple(edits), split="all", partial=True,
                  fid_set=str(data / "source"))  # fmt: skip
    with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run") as run:
        evaluate(config, run)
    apart, *from_source = json.loads((run.path / "scores.json").read_text())["differences"]
    assert len(from_source) == 2
    assert apart["samples"] == COUNT - 2
    assert "l1" in apart["scores"]
    sets = {name: score for name, score in apart["scores"].items() if name[:3] in ("fid", "kid")}
    assert list(sets) == ["fid[scene-net]", "kid[scene-net]"]
    # both editors made the same of what both have
    assert all(score["value"] == pytest.approx(0, abs=1e-9) for score in sets.values())
    assert {score["n"] for score in sets.values()} == {COUNT - 2}
