"""`ric eval` as a recipe: which pictures are scored, against what, and what is told of a number."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noting import Noting
from PIL import Image

from ric.config import EvalConfig, as_dict
from ric.data import edit_sample
from ric.data.masks import signature_box
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.networks import NOT_ASKED
from ric.recipes import evaluate as module
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring import matching
from ric.scoring.load_networks import _clip, load_metric_networks
from ric.scoring.scores import THE_SIX, Scores
from ric.settings import resolve_config
from ric.weights import find_weight
from ric_cli.main import main

IDENTITY, TRUTH = "Identity (source)", "Ground truth"


@pytest.fixture(scope="module")
def data(make_edits: Callable[..., Path]) -> Path:
    return make_edits(3)


@pytest.fixture(scope="module")
def outputs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder of what an editor made; by default grey pictures of the targets' size."""

    def make(made: dict[str, Image.Image | bytes] | None = None, name: str = "outputs") -> Path:
        folder = tmp_path_factory.mktemp(name)
        if made is None:
            made = {f"{sample.id}.png": grey(100) for sample in load_samples(data)}
        for file, picture in made.items():
            if isinstance(picture, bytes):
                (folder / file).write_bytes(picture)
            else:
                picture.save(folder / file)
        return folder

    return make


def grey(level: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


Score = Callable[..., tuple[dict[str, Scores], Path]]


@pytest.fixture
def score(tiny: Callable[..., EvalConfig], data: Path, tmp_path: Path) -> Score:
    """Score labels with folders; return the rows by label, and the run."""

    def call(
        *edits: str, on: Path = data, name: str = "run", progress: Any = None, **changes: Any
    ) -> tuple[dict[str, Scores], Path]:
        config = tiny(EvalConfig, on, edits=edits, **{"split": "all", **changes})
        with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / name) as run:
            rows = evaluate(config, run, progress)
        return {row.label: row for row in rows}, run.path

    return call


def failures(run: Path) -> dict[str, tuple[str, str]]:
    file = run / "failures.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return {row["id"]: (row["stage"], row["reason"]) for row in map(json.loads, lines)}


# --- what the numbers must be --------------------------------------------------------------------


def test_the_unedited_source_is_perfect_against_the_source(score, outputs):
    rows, _ = score(f"Mine={outputs()}", reference="source")
    identity = rows[IDENTITY]
    assert identity.role == "identity"
    for key, perfect in {"clip_i": 1, "dino": 1, "lpips": 0, "l1": 0, "l2": 0}.items():
        assert identity[key].value == pytest.approx(perfect, abs=1e-5)
        assert identity[key].n == 3
    assert identity["clip_i_target"].value < 0.9999
    assert rows["Mine"]["l1"].value > 0.1


def test_the_ground_truth_is_perfect_against_the_target(score, outputs):
    rows, _ = score(f"Mine={outputs()}")
    truth = rows[TRUTH]
    assert truth.role == "ground-truth"
    perfect = {"clip_i": 1, "dino": 1, "lpips": 0, "l1": 0, "l2": 0, "fid": 0}
    for key, value in perfect.items():
        assert truth[key].value == pytest.approx(value, abs=1e-4)
    assert rows[IDENTITY]["clip_i_source"].value == pytest.approx(1, abs=1e-5)
    assert rows[IDENTITY]["clip_i"].value < 0.9999
    assert rows[IDENTITY]["lpips"].value > 0


def test_l1_and_l2_are_the_means_one_reckons_by_hand(make_edits, score, outputs):
    data = make_edits(3)
    for name, level in {"00": 100, "01": 50, "02": 0}.items():
        grey(level).save(data / f"target/{name}.png")
    made = outputs({"00.png": grey(110), "01.png": grey(20), "02.png": grey(255)})
    rows, run = score(f"Mine={made}", on=data)
    apart = [10 / 255, 30 / 255, 1.0]
    assert rows["Mine"]["l1"].value == pytest.approx(sum(apart) / 3)
    assert rows["Mine"]["l2"].value == pytest.approx(sum(d * d for d in apart) / 3)
    per_sample = map(json.loads, (run / "per_sample.jsonl").read_text().splitlines())
    mine = {row["id"]: row["l1"] for row in per_sample if row["label"] == "Mine"}
    assert mine == pytest.approx(dict(zip(("00", "01", "02"), apart, strict=True)))


def test_clip_i_and_clip_t_are_the_mean_cosines_of_the_model_called_by_hand(
    score, data, outputs, tiny_family
):
    rows, _ = score(f"Mine={outputs()}")
    clip = ClipSimilarity(tiny_family / "clip")
    edited = clip.image_embeddings([grey(100)])[0]
    samples = list(load_samples(data))
    to_target = [float(edited @ clip.image_embeddings([s.load_target()])[0]) for s in samples]
    to_text = [float(edited @ clip.text_embeddings([s.region_text])[0]) for s in samples]
    assert rows["Mine"]["clip_i"].value == pytest.approx(sum(to_target) / 3, abs=1e-5)
    assert rows["Mine"]["clip_t"].value == pytest.approx(sum(to_text) / 3, abs=1e-5)


@pytest.mark.parametrize("which", ["instruction", "scene_text"])
def test_clip_t_compares_with_the_text_that_is_asked_for(score, data, outputs, tiny_family, which):
    rows, _ = score(f"Mine={outputs()}", text=which)
    clip = ClipSimilarity(tiny_family / "clip")
    edited = clip.image_embeddings([grey(100)])[0]
    texts = [getattr(sample, which) for sample in load_samples(data)]
    wanted = sum(float(edited @ row) for row in clip.text_embeddings(texts)) / 3
    assert rows["Mine"]["clip_t"].value == pytest.approx(wanted, abs=1e-5)


def test_scores_do_not_depend_on_the_batch(score, outputs):
    folder = outputs()
    together, _ = score(f"Mine={folder}", batch_size=3)
    alone, _ = score(f"Mine={folder}", batch_size=1, name="alone")
    for key in THE_SIX:
        assert alone["Mine"][key].value == pytest.approx(together["Mine"][key].value, abs=1e-4)


def test_with_ignore_signature_nobody_is_judged_in_the_corner(make_edits, score, outputs):
    data = make_edits(1)
    left, top, right, bottom = signature_box(96, 80)
    target, signed = grey(90), grey(90)
    target.paste((255, 0, 0), (left, top, right, bottom))
    signed.paste((0, 255, 0), (left, top, right, bottom))
    target.save(data / "target/00.png")
    made = outputs({"00.png": signed})
    with_it, _ = score(f"Mine={made}", on=data)
    without, _ = score(f"Mine={made}", on=data, name="without", ignore_signature=True)
    assert with_it["Mine"]["l1"].value > 0
    for key, perfect in {"l1": 0, "lpips": 0, "clip_i": 1, "dino": 1}.items():
        assert without["Mine"][key].value == pytest.approx(perfect, abs=1e-5)


# --- what is scored ------------------------------------------------------------------------------


def test_missing_and_corrupt_outputs_are_failures_and_the_rest_is_scored(score, outputs):
    made = outputs({"00.png": grey(100), "02.png": b"no picture"})
    rows, run = score(f"Mine={made}", f"Other={outputs()}", partial=True)
    assert rows["Mine"]["clip_i"].n == rows["Mine"]["is"].n == 1
    assert rows["Other"]["clip_i"].n == 3
    found = failures(run)
    assert set(found) == {"01", "02"}
    assert found["01"] == ("edited", f"'Mine' has no picture of it in {made}")
    assert found["02"][0] == "edited"
    assert "is not a picture that can be read" in found["02"][1]
    per_sample = map(json.loads, (run / "per_sample.jsonl").read_text().splitlines())
    assert [row["id"] for row in per_sample if row["label"] == "Mine"] == ["00"]


def test_source_and_ground_truth_stand_on_the_samples_of_every_editor_and_others_are_marked(
    make_edits, score, outputs
):
    data = make_edits(6)
    some = outputs({f"0{n}.png": grey(90) for n in (1, 4)})
    every = outputs({f"0{n}.png": grey(100) for n in range(6)})
    progress = Noting()
    rows, run = score(f"Some={some}", f"Every={every}", on=data, progress=progress, partial=True)
    told = [json.loads(line) for line in (run / "per_sample.jsonl").read_text().splitlines()]
    ids = {label: [row["id"] for row in told if row["label"] == label] for label in rows}
    assert ids["Some"] == ids[IDENTITY] == ids[TRUTH] == ["01", "04"]
    assert len(ids["Every"]) == 6
    for label in ("Some", IDENTITY, TRUTH):
        assert rows[label]["fid"].n == rows[label]["is"].n == 2
        assert not rows[label].is_apart
    assert rows["Every"].is_apart
    markdown = (run / "table.md").read_text()
    assert "| Every † |" in markdown
    assert "| Some |" in markdown
    # over other samples nobody is the best; a difference may be sure
    tables = [part for part in markdown.split("\n\n") if "| Every † |" in part]
    assert len(tables) == 2
    assert "**" not in "".join(tables)
    line = (
        "† on other samples than the rest: Every on 6; 2 have a picture of every editor that could "
        "be scored, and the source is scored on those, the ground truth on those with a target. "
        "Do not compare these rows with the others."
    )
    assert f"- {line}" in markdown
    assert progress.lines == [line]
    assert "Every $\\dagger$ & " in (run / "table.tex").read_text()
    editors = json.loads((run / "scores.json").read_text())["editors"]
    assert [(row["samples"], row["samples_shared"]) for row in editors] == [
        (2, 2), (6, 2), (2, 2), (2, 2)
    ]  # fmt: skip


def test_editors_without_a_sample_in_common_have_no_source_or_ground_truth_row(score, outputs):
    some = [outputs({f"0{number}.png": grey(90)}) for number in (0, 1)]
    rows, _ = score(f"A={some[0]}", f"B={some[1]}", partial=True)
    assert list(rows) == ["A", "B"]
    assert all(row.is_apart for row in rows.values())


def test_pictures_that_belong_to_no_sample_are_counted_and_the_first_are_named(
    score, outputs, data
):
    names = ["00", "01", "02", "cat", "dog", "eel", "fox"]
    made, progress = outputs({f"{name}.png": grey(100) for name in names}), Noting()
    score(f"Mine={made}", progress=progress)
    assert progress.lines == [
        f"4 pictures in {made} match no scored sample of {data} (split all): "
        "cat.png, dog.png, eel.png, …"
    ]


def test_clip_t_names_its_text_and_how_many_fell_back_to_the_instruction(
    make_edits, score, outputs
):
    data = make_edits(3, {1: {"region_text": None}})
    rows, run = score(f"Mine={outputs()}", on=data)
    clip_t = rows["Mine"]["clip_t"]
    assert clip_t.n == 3
    assert clip_t.definition.startswith("edited and region_text, else instruction: cosine in tiny")
    assert clip_t.note == "Without a region_text, by the instruction: 1."
    assert clip_t.note in (run / "table.md").read_text()
    told, _ = score(f"Mine={outputs()}", on=data, text="instruction", name="told")
    assert told["Mine"]["clip_t"].definition.startswith("edited and instruction: cosine")
    assert told["Mine"]["clip_t"].note is None


def test_source_and_target_are_encoded_once_for_all_editors(score, outputs, monkeypatch):
    seen, original = [], ClipSimilarity.embed

    def embed(self: ClipSimilarity, prepared: list[torch.Tensor]) -> torch.Tensor:
        seen.extend(prepared)
        return original(self, prepared)

    monkeypatch.setattr(ClipSimilarity, "embed", embed)
    score(f"A={outputs()}", f"B={outputs()}")
    assert len(seen) == 3 * (2 + 2)  # source, target, and what A and B made


def test_an_output_of_another_size_is_brought_to_the_references(score, outputs):
    sizes = {"00.png": (192, 160), "01.png": (120, 100), "02.png": (96, 80)}
    made = outputs({name: grey(100, size) for name, size in sizes.items()})
    rows, run = score(f"Resized={made}", f"Mine={outputs()}")
    assert failures(run) == {}
    for key in ("l1", "clip_i", "lpips"):
        assert rows["Resized"][key].value == pytest.approx(rows["Mine"][key].value, abs=1e-5)


def test_outputs_in_other_formats_are_found_by_their_stem(score, outputs):
    made = outputs({"00.webp": grey(100), "01.bmp": grey(100), "02.jpg": grey(100)})
    rows, run = score(f"Mine={made}")
    assert rows["Mine"]["clip_i"].n == 3
    assert failures(run) == {}


def test_outputs_that_belong_to_no_sample_are_an_error(score, outputs):
    made = outputs({"dog.png": grey(100)})
    with pytest.raises(RicError, match=rf"No picture of 'Mine' \({made}\) belongs to") as caught:
        score(f"Mine={made}")
    assert "name without extension, which is the id" in caught.value.hint


def test_files_beside_the_pictures_do_not_stand_in_their_way(score, outputs):
    made = outputs()
    for name in ("00.txt", "01.png.json", "notes.md", ".02.png"):
        (made / name).write_text("not a picture")
    rows, run = score(f"Mine={made}")
    assert rows["Mine"]["clip_i"].n == 3
    assert failures(run) == {}


def test_a_sample_that_cannot_be_read_is_a_failure_of_its_own(make_edits, score, outputs):
    data = make_edits(3)
    (data / "source/01.png").write_bytes(b"")
    rows, run = score(f"Mine={outputs()}", on=data)
    assert failures(run)["01"][0] == "source"
    assert rows["Mine"]["clip_i"].n == rows[IDENTITY]["clip_i"].n == 2


def test_without_targets_the_source_is_the_reference_and_there_is_no_fid_or_ground_truth(
    make_edits, score, outputs
):
    gone, progress = {"target_file_name": None}, Noting()
    data = make_edits(3, dict.fromkeys(range(3), gone))
    rows, _ = score(f"Mine={outputs()}", on=data, progress=progress)
    assert list(rows) == ["Mine", IDENTITY]
    assert rows["Mine"]["clip_i"].definition.startswith("edited and source")
    assert rows[IDENTITY]["clip_i"].value == pytest.approx(1, abs=1e-5)
    assert rows["Mine"]["clip_i_target"].unavailable == "no sample has a target"
    assert rows["Mine"]["fid"].unavailable == "no sample has a target"
    assert progress.lines == [f"{data} has no targets: outputs are compared with the sources"]


def test_a_split_without_samples_is_an_error(score, outputs):
    with pytest.raises(RicError, match=r"No sample of .* \(split val\) could be scored") as caught:
        score(f"Mine={outputs()}", split="val")
    assert "--split all" in caught.value.hint


# --- labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["Mine", IDENTITY, TRUTH])
def test_a_label_used_twice_is_an_error(score, outputs, label):
    with pytest.raises(RicError) as caught:
        score(f"Mine={outputs()}", f"{label}={outputs()}")
    assert caught.value.message == f"The label {label!r} is used twice."
    assert caught.value.hint == 'Give each its own: "A=runs/3"'


def test_nothing_to_score_is_an_error(score):
    with pytest.raises(RicError, match="Nothing to score") as caught:
        score()
    assert 'ric eval "Mine=out/" --data DATA' in caught.value.hint


def test_an_eval_that_goes_on_scores_the_run_that_its_name_meant_at_first(
    score, outputs, tmp_path, monkeypatch
):
    def new_edit() -> Path:
        with open_run("edit", {}, runs_dir=tmp_path) as run:
            shutil.copytree(outputs(), run.path / "images")
        return run.path

    first = new_edit()
    with monkeypatch.context() as broken:
        broken.setattr(module, "load_metric_networks", fail)
        with pytest.raises(RicError, match="no networks today"):
            score("Mine=@edit")
    new_edit()
    _, run = score("Mine=@edit")
    parents = json.loads((run / "run.json").read_text())["parents"]
    assert [(run / path).resolve() for path in parents] == [first.resolve()]


def fail(*given: object) -> None:
    raise RicError("no networks today")


# --- what is written -----------------------------------------------------------------------------


def test_every_table_names_each_number_its_n_and_its_encoder(score, outputs, data):
    rows, run = score(f"A={outputs()}", f"B & C={outputs({'00.png': grey(30)})}", partial=True)
    scores = json.loads((run / "scores.json").read_text())
    assert scores["data"]["name"] == data.name
    assert [editor["label"] for editor in scores["editors"]] == ["A", "B & C", IDENTITY, TRUTH]
    for name in ("clip_i[tiny]", "clip_t[tiny]", "dino[scene-net]", "fid[scene-net]"):
        told = scores["editors"][1]["scores"][name]
        assert told["n"] == 1 or name.startswith("fid")
        assert (
            "tiny" in told["definition"] or "scene" in told["definition"] or told["value"] is None
        )
    assert scores["editors"][0]["scores"]["clip_i[tiny]"]["value"] == rows["A"]["clip_i"].value

    markdown = (run / "table.md").read_text()
    heading = markdown.splitlines()[0]
    for title in ("CLIP-I[tiny]", "DINO[scene-net]", "CLIP-T[tiny]", "[scene-net]", "FID", "IS"):
        assert title in heading
    assert "clip_i[tiny] (N = 3/1): edited and target: cosine in tiny" in markdown
    for line_start in ("| A † |", "| B & C |", f"| {IDENTITY} |", f"| {TRUTH} |"):
        assert line_start in markdown

    table = list(csv.DictReader((run / "table.csv").open()))
    assert {row["label"] for row in table} == {"A", "B & C", IDENTITY, TRUTH}
    of_c = [r for r in table if (r["label"], r["metric"]) == ("B & C", "clip_i[tiny]")]
    clip_i, *differences = of_c
    assert [(r["role"], r["against"]) for r in differences] == [
        ("difference", "A"), ("difference", IDENTITY)
    ]  # fmt: skip
    assert clip_i["n"] == "1"
    assert float(clip_i["value"]) == pytest.approx(rows["B & C"]["clip_i"].value)

    latex = (run / "table.tex").read_text()
    assert latex.startswith("\\begin{tabular}{lcccccc}\n\\toprule\n")
    assert "\nB \\& C & " in latex
    assert "CLIP-I[tiny] $\\uparrow$" in latex

    lines = [json.loads(line) for line in (run / "per_sample.jsonl").read_text().splitlines()]
    assert sum(row["label"] == "A" for row in lines) == 3
    assert sum(row["label"] == TRUTH for row in lines) == 1
    assert {"id", "clip_i", "clip_i_source", "dino", "clip_t", "lpips"} <= set(lines[0])


def test_later_editors_are_held_against_the_first_one_sample_by_sample(score, outputs, data):
    twins = {f"{sample.id}.png": grey(102) for sample in load_samples(data)}
    one = {"00.png": grey(30)}
    rows, run = score(f"A={outputs()}", f"B={outputs(twins)}", f"C={outputs(one)}", partial=True)
    told = json.loads((run / "scores.json").read_text())["differences"]
    assert [(row["label"], row["against"], row["samples"]) for row in told] == [
        ("B", "A", 3), ("C", "A", 1), ("A", IDENTITY, 1), ("B", IDENTITY, 1), ("C", IDENTITY, 1)
    ]  # fmt: skip
    l1, fid = told[0]["scores"]["l1"], told[0]["scores"]["fid[scene-net]"]
    assert l1["value"] == pytest.approx(rows["B"]["l1"].value - rows["A"]["l1"].value)
    assert l1["low"] <= l1["value"] <= l1["high"]
    assert l1["n"] == 3
    assert fid["value"] == pytest.approx(rows["B"]["fid"].value - rows["A"]["fid"].value, rel=1e-4)
    lines = [json.loads(line) for line in (run / "per_sample.jsonl").read_text().splitlines()]
    of_00 = {row["label"]: row["l1"] for row in lines if row["id"] == "00"}
    assert told[1]["scores"]["l1"]["value"] == pytest.approx(of_00["C"] - of_00["A"])
    assert "fid[scene-net]" not in told[1]["scores"]
    markdown = (run / "table.md").read_text()
    assert "| | B - A | C - A |" in markdown
    shown = f"| L1 ↓ | {l1['value']:+.4f} ["
    assert shown in markdown.replace("**", "")


def test_what_lies_outside_the_mask_is_held_against_the_source(score, outputs, data):
    made = {}
    for sample in load_samples(data):
        pixels = np.array(sample.load_source())
        pixels[sample.load_mask()] = 0
        made[f"{sample.id}.png"] = Image.fromarray(pixels)
    rows, _ = score(f"Inside={outputs(made)}", f"Grey={outputs()}")
    inside, everywhere = rows["Inside"], rows["Grey"]
    for key, perfect in {"psnr_outside": 100, "ssim_outside": 1, "lpips_outside": 0}.items():
        assert inside[key].value == pytest.approx(perfect)
        assert inside[key].n == 3
    assert inside["l1"].value > 0
    assert everywhere["ssim_outside"].value < 0.95
    assert everywhere["lpips_outside"].value > 0


def test_metrics_by_name_alone_are_in_no_table_unless_they_are_named(
    score, outputs, data, make_edits
):
    names = ("clip_direction", "psnr", "ssim", "psnr_inside", "lpips_inside")
    captions = {"source_text": "a grey wall", "target_text": "a red ball on a wall"}
    on = make_edits(3, dict.fromkeys(range(3), captions))
    made = {f"{sample.id}.png": sample.load_target() for sample in load_samples(on)}
    rows, run = score(f"Exact={outputs(made)}", f"Grey={outputs()}", on=on, metrics=",".join(names))
    assert [one.key for one in rows["Exact"].scores] == list(names)
    assert all(one.n == 3 for one in rows["Grey"].scores)
    for key, perfect in {"psnr": 100, "ssim": 1, "psnr_inside": 100, "lpips_inside": 0}.items():
        assert rows["Exact"][key].value == pytest.approx(perfect)
        assert rows["Grey"][key].value != pytest.approx(perfect, abs=0.01)
    truth = rows["Ground truth"]["clip_direction"].value
    assert rows["Exact"]["clip_direction"].value == pytest.approx(truth, abs=1e-5)
    assert rows["Identity (source)"]["clip_direction"].value == 0
    assert "PSNR inside the mask, dB" in (run / "table.md").read_text()
    plain, _ = score(f"Grey={outputs()}", on=on, metrics="all", name="all")
    assert not {one.key for one in plain["Grey"].scores} & set(names)


# --- weights that are not there ------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without weights and without a network."""
    for variable in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / "caches" / variable))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    return monkeypatch


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Type `ric eval …` and give its exit code."""

    def call(*typed: str, quiet: bool = True) -> int:
        where = ["--run", str(tmp_path / "run"), "--split", "all", "--device", "cpu"]
        words = [*typed, *where, *["--quiet"] * quiet]
        monkeypatch.setattr(sys, "argv", ["ric", "eval", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0

    return call


def test_a_network_that_is_missing_is_one_line_below_what_was_computed(
    data, outputs, tiny_family, bare, exit_code, capsys, tmp_path
):
    clip, dino = str(tiny_family / "clip"), str(tiny_family / "dino")
    words = ("--data", str(data), "--clip", clip, "--dino", dino)
    assert exit_code(f"Mine={outputs()}", *words, quiet=False) == 3
    table = (tmp_path / "run/table.md").read_text()
    mine = next(line for line in table.splitlines() if line.startswith("| Mine |"))
    cells = [cell.strip() for cell in mine.strip("|").split("|")][1:]
    assert len(cells) == 3
    for cell in cells:
        assert 0 < abs(float(cell.split()[0])) <= 1
    lines = [
        f"Not available: {keys}: {weight} ({size}) is not on this machine, and HF_HUB_OFFLINE is"
        f" set: ric weights get {weight}."
        for keys, weight, size in (
            ("lpips", "lpips-alex", "244 MB"),
            ("fid, kid, is", "inception-2015-12-05", "about 95.6 MB"),
        )
    ]
    told = capsys.readouterr()
    assert [line for line in told.err.splitlines() if line.startswith("Not avail")] == lines
    for line in lines:
        assert f"- {line}\n" in table
    assert "not available" not in told.out + table
    scores = json.loads((tmp_path / "run/scores.json").read_text())["editors"][0]["scores"]
    assert scores["fid"]["value"] is None
    assert "ric weights get" in scores["fid"]["unavailable"]
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "done"


def test_without_any_network_what_needs_none_is_shown_and_the_exit_code_is_3(
    data, outputs, bare, exit_code, capsys, tmp_path
):
    assert exit_code(f"Mine={outputs()}", "--data", str(data), quiet=False) == 3
    told = capsys.readouterr()
    assert "PSNR outside the mask, dB" in told.out
    for key in ("l1", "psnr_outside"):
        assert f"{key} (N = 3): " in told.err
    for weight in ("openai/clip-vit-base-patch32", "facebook/dino-vits16", "lpips-alex"):
        assert f"ric weights get {weight}." in told.err
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "done"


def test_metrics_with_networks_of_their_own_that_are_not_here_have_a_line_each(
    data, outputs, bare, exit_code, capsys, tmp_path
):
    words = ("--metrics", "l1,dists,clip_fid,pick_score,fd_dinov2")
    assert exit_code(f"Mine={outputs()}", "--data", str(data), *words, quiet=False) == 3
    told = capsys.readouterr().err
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if line.startswith("Not available: ")]
    found = {line.split(": ")[1]: line.rpartition(": ")[2] for line in lines}
    assert found == {
        "fd_dinov2": "ric weights get facebook/dinov2-large.",
        "clip_fid": "ric weights get openai/clip-vit-base-patch32.",
        "pick_score": "ric weights get yuvalkirstain/PickScore_v1.",
        "dists": "ric weights get lpips-vgg.",
    }
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert sorted(record["unavailable"]) == sorted(found)


def test_metrics_that_are_chosen_need_no_network_of_another(
    data, outputs, bare, exit_code, capsys, tmp_path
):
    words = ("--metrics", "L1,psnr-outside")
    assert exit_code(f"Mine={outputs()}", "--data", str(data), *words, quiet=False) == 0
    told = capsys.readouterr()
    assert "PSNR outside the mask, dB" in told.out
    assert "Not available" not in told.err
    scores = json.loads((tmp_path / "run/scores.json").read_text())["editors"][0]["scores"]
    assert list(scores) == ["l1", "psnr_outside"]
    assert "PSNR outside the mask, dB" in (tmp_path / "run/table.tex").read_text()
    row = json.loads((tmp_path / "run/per_sample.jsonl").read_text().splitlines()[0])
    assert {"l1", "psnr_outside"} <= row.keys()
    assert not {"clip_i", "l2"} & row.keys()


@pytest.mark.parametrize("names", ["clip_t", "fid", "kid", "is", "dino,lpips_outside", "clip_i"])
def test_a_chosen_metric_has_the_number_that_it_has_among_all(score, outputs, names):
    folder = outputs()
    every, _ = score(f"Mine={folder}", name="all")
    some, _ = score(f"Mine={folder}", metrics=names)
    keys = names.split(",")
    beside = {"clip_i": ["clip_i_source"], "dino": ["dino_source"]}
    also = [other for key in keys for other in beside.get(key, ())]
    assert {one.key for one in some["Mine"].scores} == {*keys, *also}
    for label, row in some.items():
        for one in row.scores:
            among_all = every[label][one.name]
            # texts are encoded in batches of another size, whose products some CPUs round otherwise
            assert one.value == pytest.approx(among_all.value, rel=1e-6)
            assert one.n == among_all.n


def test_when_no_metric_can_be_computed_that_is_an_error(
    data, outputs, bare, exit_code, capsys, tmp_path
):
    words = ("--metrics", "clip_i,dino,lpips")
    assert exit_code(f"Mine={outputs()}", "--data", str(data), *words) == 1
    told = capsys.readouterr().err
    assert "No metric could be computed" in told
    for weight in ("openai/clip-vit-base-patch32", "facebook/dino-vits16", "lpips-alex"):
        assert weight in told
    assert "ric weights get --for eval" in told
    assert "--preset tiny" in told
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "failed"


def test_a_failed_sample_is_told_by_the_exit_code(data, outputs, exit_code, tmp_path):
    made = outputs({"00.png": grey(100)})
    assert exit_code(f"Mine={made}", "--data", str(data), "--preset", "tiny") == 1
    shutil.rmtree(tmp_path / "run")
    assert exit_code(f"Mine={made}", "--data", str(data), "--preset", "tiny", "--partial") == 3


def test_an_eval_without_any_failure_ends_with_0(data, outputs, exit_code):
    assert exit_code(f"Mine={outputs()}", "--data", str(data), "--preset", "tiny") == 0


def test_without_a_network_all_looking_up_takes_as_long_as_one(
    score, outputs, tiny_family, bare, monkeypatch
):
    bare.delenv("HF_HUB_OFFLINE")
    # dino, Inception, LPIPS' AlexNet and SqueezeNet: none is answered before all have asked
    all_four = threading.Barrier(4, timeout=30)

    def wait(*given: object, **named: object) -> None:
        all_four.wait()
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", wait)
    clip = str(tiny_family / "clip")
    rows, _ = score(f"Mine={outputs()}", preset="paper", clip=clip, dino="facebook/dino-vits16")
    assert not all_four.broken
    assert "cannot be reached: no answer in" in rows["Mine"]["dino"].unavailable
    assert rows["Mine"]["clip_i"].value is not None


def test_a_split_that_only_the_pixels_tell_costs_each_source_one_more_decoding(
    make_edits, score, outputs, monkeypatch
):
    data = make_edits(3, {number: {"split": None} for number in range(3)})
    read: list[str] = []
    opened = edit_sample.open_image

    def count(picture: Any, **limits: Any) -> Image.Image:
        read.append(Path(picture).parent.name)
        return opened(picture, **limits)

    monkeypatch.setattr(edit_sample, "open_image", count)
    of_split = [sample.id for sample in load_samples(data).narrowed("train")]
    assert of_split
    assert read == ["source"] * 3
    read.clear()
    score(f"Mine={outputs()}", on=data, split="train")
    assert read.count("source") == 3 + len(of_split)


def test_an_editor_without_any_picture_that_can_be_read_takes_nothing_from_the_others(
    score, outputs
):
    broken = outputs({f"0{number}.png": b"broken" for number in range(3)})
    rows, run = score(f"Broken={broken}", f"Mine={outputs()}")
    assert list(rows) == ["Broken", "Mine", IDENTITY, TRUTH]
    assert rows[IDENTITY]["l1"].n == rows[TRUTH]["l1"].n == rows["Mine"]["l1"].n == 3
    assert rows["Broken"]["l1"].unavailable == "no sample was scored"
    assert rows["Broken"].is_apart
    assert not rows["Mine"].is_apart
    told = json.loads((run / "scores.json").read_text())["differences"]
    assert [(row["label"], row["against"]) for row in told] == [("Mine", IDENTITY)]


def test_nothing_that_can_be_read_names_what_failed(score, outputs):
    broken = outputs({f"0{number}.png": b"broken" for number in range(3)})
    with pytest.raises(RicError, match=r"could be scored\. 3 failed: 00: .*") as caught:
        score(f"Broken={broken}")
    assert "weights" not in (caught.value.hint or "")


def test_edits_of_one_source_are_of_one_photo_whatever_the_sizes_of_their_targets(
    make_edits, score, outputs
):
    data = make_edits(3, {1: {"source_file_name": "source/00.png"}})
    target = data / "target/01.png"
    with Image.open(target) as picture:
        picture.resize((picture.width // 2, picture.height // 2)).save(target)
    rows, run = score(f"Mine={outputs()}", on=data)
    assert (rows["Mine"].samples, rows["Mine"].photos) == (3, 2)
    assert "3 samples of 2 photos" in (run / "table.md").read_text()


def test_a_ground_truth_on_fewer_samples_is_marked(make_edits, score, outputs):
    rows, _ = score(f"Mine={outputs()}", on=make_edits(3, {1: {"target_file_name": None}}))
    assert (rows[TRUTH].samples, rows[TRUTH].is_apart) == (2, True)
    assert not rows["Mine"].is_apart
    assert not rows[IDENTITY].is_apart


def test_against_the_source_outputs_are_held_at_the_source_s_own_size(make_edits, score, outputs):
    data = make_edits(3)
    for file in (data / "target").iterdir():
        with Image.open(file) as picture:
            picture.resize((96, 96)).save(file)
    rows, run = score(f"Mine={outputs()}", on=data, reference="source")
    assert rows["Mine"].samples == 3
    assert not failures(run)
    sources = [Image.open(data / f"source/{number:02d}.png") for number in range(3)]
    apart = [np.abs(np.asarray(source, float) - 100).mean() / 255 for source in sources]
    assert rows["Mine"]["l1"].value == pytest.approx(np.mean(apart))
    assert rows["Mine"]["psnr_outside"].n == 3  # the mask comes along
    with pytest.raises(RicError, match="which is not the shape of 96x96"):
        score(f"Mine={outputs()}", on=data, name="target")


def test_two_things_wrong_with_one_sample_are_both_told(make_edits, score, outputs):
    data = make_edits(3)
    (data / "mask/01.png").write_bytes(b"broken")
    made = {f"0{n}.png": grey(100) for n in (0, 2)} | {"01.png": b"broken"}
    _, run = score(f"Mine={outputs(made)}", on=data)
    stage, reason = failures(run)["01"]
    assert stage == "mask, edited"
    assert "mask/01.png" in reason
    assert "outputs" in reason


def test_a_dangling_link_is_the_failure_of_its_sample_alone(score, outputs):
    made = outputs({"00.png": grey(100), "01.png": grey(100)})
    for name in ("02.png", "thumbnail.png"):
        (made / name).symlink_to("/nowhere")
    rows, run = score(f"Mine={made}")
    assert rows["Mine"].samples == 2
    assert list(failures(run)) == ["02"]


def test_how_outputs_are_fitted_is_written_beside_the_scores(score, outputs):
    _, run = score(f"Mine={outputs()}", fit="pad")
    told = json.loads((run / "scores.json").read_text())["outputs"]
    assert told.endswith("those of another shape are padded with black")
    assert f"- {told}\n" in (run / "table.md").read_text()


def test_magicbrush_loads_what_it_shows_and_nothing_else(tiny, data, outputs, tmp_path):
    config = tiny(EvalConfig, data, edits=(f"Mine={outputs()}",), split="all",
                  protocol="magicbrush", text="target_text")  # fmt: skip
    with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run") as run:
        networks = load_metric_networks(config, run, torch.device("cpu"))
        (mine, *_) = evaluate(config, run)
    assert {networks.lpips, networks.lpips_squeeze, networks.fid, networks.inception_score} == {
        NOT_ASKED
    }
    assert [score.key for score in mine.scores] == ["clip_i", "dino", "clip_t", "l1", "l2"]
    assert run.record["unavailable"] == []  # which would be exit code 3


@pytest.mark.parametrize("text", ["Mine=", "=", "Mine= "])
def test_a_label_without_a_place_is_an_error(score, text):
    with pytest.raises(RicError, match="Nothing follows the label"):
        score(text)


def test_a_labelled_folder_may_have_an_equals_sign_of_its_own(score, outputs):
    made = outputs()
    named = made.rename(made.with_name("lr=1e-4"))
    rows, _ = score(f"Mine={named}")
    assert rows["Mine"].samples == 3


def test_every_picture_is_decoded_once(make_edits, score, outputs, monkeypatch):
    data, read = make_edits(3), []

    def count(module: Any) -> None:
        opened = module.open_image

        def watched(picture: Any, **limits: Any) -> Image.Image:
            read.append(Path(picture))
            return opened(picture, **limits)

        monkeypatch.setattr(module, "open_image", watched)

    count(edit_sample)
    count(matching)
    one, other = outputs(), outputs()
    score(f"A={one}", f"B={other}", on=data)
    folders = (data / "source", data / "target", one, other)
    assert sorted(read) == sorted(file for folder in folders for file in folder.iterdir())


def test_under_95_percent_of_the_outputs_is_an_error_and_95_is_none(make_edits, score, outputs):
    data = make_edits(20)
    names = [f"{number:02d}.png" for number in range(20)]
    enough = outputs({name: grey(100) for name in names[1:]})
    rows, _ = score(f"Mine={enough}", on=data)
    assert rows["Mine"].samples == 19
    (enough / names[1]).unlink()
    with pytest.raises(RicError, match="has pictures of 18 of 20 samples"):
        score(f"Mine={enough}", on=data, name="other")


def snapshot_of(folder: Path, hub: Path, commit: str) -> None:
    """Lay a folder's weights down as the hub's client does: links to blobs of their digests."""
    repository = hub / "hub/models--facebook--dino-vits16"
    shutil.copytree(folder, repository / "snapshots" / commit)
    weights = repository / "snapshots" / commit / "model.safetensors"
    blob = repository / "blobs" / hashlib.sha256(weights.read_bytes()).hexdigest()
    blob.parent.mkdir()
    weights.rename(blob)
    weights.symlink_to(blob)


@pytest.mark.parametrize("is_pinned", [True, False])
def test_weights_are_told_by_commit_and_digest_and_others_than_the_published_are_marked(
    is_pinned, score, outputs, dino_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    weight = find_weight("facebook/dino-vits16")
    commit = weight.revision if is_pinned else "a" * 40
    snapshot_of(dino_folder, tmp_path / "hub", commit)
    digest = hashlib.sha256((dino_folder / "model.safetensors").read_bytes()).hexdigest()
    rows, run = score(f"Mine={outputs()}", dino=weight.id, metrics="dino")
    weights = json.loads((run / "scores.json").read_text())["weights"]
    about = {"id": weight.id, "revision": commit, "sha256": digest, "published": is_pinned}
    assert weights[weight.id] == about
    table = (run / "table.md").read_text()
    line = f"- weights of {weight.id}: {weight.id}, revision {commit}, SHA-256 {digest}\n"
    assert line in table
    assert rows["Mine"]["dino"].marker == ("" if is_pinned else f"weights {digest[:8]}")
    assert (f"DINO[weights {digest[:8]}] ↑" in table) is not is_pinned


def test_the_clip_of_a_protocol_s_own_is_not_marked(clip_folder):
    large = "openai/clip-vit-large-patch14"
    assert ClipSimilarity(clip_folder, encoder=large).marker == large
    assert ClipSimilarity(clip_folder, encoder=large, published=large).marker == ""
    config = resolve_config(EvalConfig, {"edits": ("a",), "data": "d", "protocol": "pie-bench"})
    made = _clip(config, lambda network: clip_folder, "cpu")
    assert made.marker == ""
