"""`ric edit --candidates N`: of N edits of a picture the judges keep one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_requests import draw
from PIL import Image

from ric.config import EditConfig, FitBlipConfig
from ric.data.batches import to_unit
from ric.data.masks import shrink_mask
from ric.data.sample import load_samples
from ric.editors.asking import Answer
from ric.editors.candidates import Candidate, Criteria, Judges, Medoid, choose
from ric.errors import RicError
from ric.method.region_box import tightest_box
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.table import models_of
from ric.preflight.cost import unet_evaluations
from ric.recipes.edit import edit
from ric.recipes.fit_blip import fit_blip
from ric.runs.open_run import open_run
from ric.settings import resolve_config

FEW = {"steps": 1, "split": "train"}


def rows_of(run: Path, kind: str = "edits") -> dict[str, dict[str, Any]]:
    file = run / f"{kind}.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def judges(tiny_family: Path) -> tuple[RegionEncoder, SceneEncoder]:
    return (
        RegionEncoder.from_pretrained(tiny_family / "region_encoder"),
        SceneEncoder.from_pretrained(tiny_family / "scene_encoder"),
    )


@pytest.fixture(scope="module")
def alone(edits, tiny, follow, tmp_path_factory) -> dict[int, Path]:
    """A run with each of three seeds."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        seed: follow(edit, tiny(EditConfig, edits, **FEW, seed=seed), folder / str(seed))
        for seed in (5, 6, 7)
    }


@torch.no_grad()
def cosines(picture: Image.Image, sample: Any, judges: Any) -> dict[str, float]:
    """Judge one picture by the two judges as a reader of the paper would."""
    region, scene = judges
    pixels = torch.from_numpy(np.array(picture.resize((64, 64)))).permute(2, 0, 1)
    box = tightest_box(shrink_mask(sample.load_mask(), 64))
    f_r = region.encode_region(to_unit(pixels)[None], [box])[0]
    e_f = scene.encode_image(to_unit(pixels)[None])[0]
    pairs = {
        "region": (f_r, region.encode_text([sample.region_text])[0]),
        "scene": (e_f, scene.encode_text([sample.scene_text])[0]),
    }
    return {
        name: float(one @ other / (one.norm() * other.norm()))
        for name, (one, other) in pairs.items()
    }


@pytest.mark.parametrize(
    ("settings", "judging"),
    [
        ({}, ("region", "scene")),
        ({"scene_blip": None}, ("region",)),
        ({"region_clip": None}, ("scene",)),
    ],
    ids=["both", "region", "scene"],
)
def test_the_edit_that_pleases_the_judges_most_is_kept_and_is_that_of_its_seed(
    settings, judging, edits, tiny, follow, tmp_path, judges, alone
):
    samples = {one.id: one for one in load_samples(str(edits)).narrowed("train")}
    config = tiny(EditConfig, edits, **FEW, seed=5, candidates=3, **settings)
    rows = rows_of(follow(edit, config, tmp_path / "chosen"))
    assert rows.keys() == samples.keys()
    for name, row in rows.items():
        pictures = {seed: Image.open(run / "images" / f"{name}.png") for seed, run in alone.items()}
        judged = {
            seed: cosines(picture, samples[name], judges) for seed, picture in pictures.items()
        }
        best = max(judged, key=lambda seed: sum(judged[seed][one] for one in judging))
        assert row["chosen_seed"] == best
        assert row["judged"].keys() == set(judging)
        for one in judging:
            assert row["judged"][one] == pytest.approx(
                [judged[seed][one] for seed in alone], abs=2e-3
            )
        kept = Image.open(tmp_path / "chosen" / "images" / f"{name}.png")
        assert kept.tobytes() == pictures[best].tobytes()
    assert len({row["chosen_seed"] for row in rows.values()}) > 1


def test_without_judges_the_edit_nearest_to_the_mean_of_all_is_kept(
    make_edits, tiny, follow, tmp_path, monkeypatch
):
    for kind in (RegionEncoder, SceneEncoder):
        monkeypatch.setattr(kind, "from_pretrained", lambda *given: pytest.fail("it was loaded"))
    # texts and masks are not asked for
    data = make_edits(4, {n: {"region_text": None, "scene_text": None} for n in range(4)})
    (data / "mask/03.png").write_bytes(b"torn")
    few = {"steps": 1, "split": "all"}
    alone = {
        seed: follow(edit, tiny(EditConfig, data, **few, seed=seed), tmp_path / str(seed))
        for seed in (5, 6, 7)
    }
    config = tiny(EditConfig, data, **few, seed=5, candidates=3, choose_by="medoid")
    run = follow(edit, config, tmp_path / "run")
    rows = rows_of(run)
    assert len(rows) == 4
    for name, row in rows.items():
        pictures = [Image.open(one / "images" / f"{name}.png") for one in alone.values()]
        small = [np.asarray(picture.resize((64, 64)), np.float64) for picture in pictures]
        values = np.stack(small) / 255
        from_mean = np.square(values - values.mean(0)).mean((1, 2, 3))
        assert row["chosen_seed"] == 5 + from_mean.argmin()
        among = np.square(values[:, None] - values[None]).mean((2, 3, 4)).sum(1) / 2
        assert row["judged"]["likeness"] == pytest.approx(-among, rel=5e-3)
        kept = Image.open(run / "images" / f"{name}.png")
        assert kept.tobytes() == pictures[from_mean.argmin()].tobytes()
    assert len({row["chosen_seed"] for row in rows.values()}) > 1


def test_where_one_candidate_alone_can_be_kept_it_is_the_medoid():
    ball, criteria = draw(64, 64), Criteria(None, None, None)
    candidates = [Candidate(0, None, {}), Candidate(1, ball, {})]
    answer, told = choose(candidates, Medoid(64), criteria, lambda answer: answer)
    assert answer is ball
    assert told["judged"] == {"likeness": [None, 0.0]}


def test_a_sample_without_texts_or_region_is_judged_by_what_there_is_or_fails(
    make_edits, tiny, follow, tmp_path
):
    lacking = {
        0: {"region_text": None},
        1: {"scene_text": None},
        2: {"mask_file_name": None},
        3: {"region_text": None, "scene_text": None},
        4: {"mask_file_name": None, "scene_text": None},
    }
    data = make_edits(5, lacking)
    config = tiny(EditConfig, data, steps=1, split="all", candidates=2)
    run = follow(edit, config, tmp_path / "run")
    judged = {name: sorted(row["judged"]) for name, row in rows_of(run).items()}
    assert judged == {"00": ["scene"], "01": ["region"], "02": ["scene"]}
    failures = rows_of(run, "failures")
    assert failures.keys() == {"03", "04"}
    assert "it has no region_text and no scene_text." in failures["03"]["reason"]
    assert "it has no mask and no scene_text." in failures["04"]["reason"]


def test_a_repeated_command_makes_anew_what_is_judged_by_another_text(
    make_edits, tiny, follow, tmp_path
):
    data = make_edits(3)
    config = tiny(EditConfig, data, steps=1, split="all", candidates=2)
    run = follow(edit, config, tmp_path / "run")
    before = {file.name: file.stat().st_mtime_ns for file in (run / "images").iterdir()}
    told = (data / "metadata.jsonl").read_text()
    (data / "metadata.jsonl").write_text(told.replace("number 1", "number 7"))
    follow(edit, config, run)
    after = {file.name: file.stat().st_mtime_ns for file in (run / "images").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"01.png"}


def test_a_candidate_without_a_picture_is_not_chosen_and_without_any_the_sample_fails(judges):
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:40, 20:40] = True
    criteria = Criteria("a red ball", None, mask)
    judge = Judges(judges[0], None, 64)

    def picked(*answers: Answer) -> tuple[Answer, dict[str, object]]:
        candidates = [Candidate(seed, one, {"of": seed}) for seed, one in enumerate(answers)]
        return choose(candidates, judge, criteria, lambda answer: answer)

    ball = draw(64, 64)
    answer, told = picked(None, ball, None)
    assert answer is not None
    assert answer.tobytes() == ball.tobytes()  # type: ignore[union-attr]
    assert (told["chosen_seed"], told["of"]) == (1, 1)
    values = told["judged"]["region"]  # type: ignore[index]
    assert [value is None for value in values] == [True, False, True]
    assert picked(ball, ball)[1]["chosen_seed"] == 0
    assert picked(None, None) == (None, {"of": 0})


PAINTS = """
from PIL import Image

COLOURS = {1: (200, 30, 30), 3: (30, 150, 60)}  # others are black, as a safety checker's

class Paints:
    def __init__(self, model, config, device):
        pass

    def edit(self, requests, between_steps=lambda: None):
        return [
            Image.new("RGB", (5, 5) if one.seed == 2 else one.image.size, COLOURS.get(one.seed, 0))
            for one in requests
        ]

    def describe(self):
        return {}
"""


def test_candidates_are_judged_as_they_are_kept_and_those_that_cannot_be_kept_are_not(
    edits, tiny, follow, tmp_path, judges
):
    (tmp_path / "own.py").write_text(PAINTS)
    how = {"editor": f"{tmp_path / 'own.py'}:Paints", "mask": "data", "split": "train", "limit": 3}
    run = follow(edit, tiny(EditConfig, edits, candidates=4, **how), tmp_path / "run")
    assert rows_of(run, "failures") == {}
    rows = rows_of(run)
    for sample in load_samples(str(edits)).narrowed("train"):
        if sample.id not in rows:
            continue
        mask, kept = Image.fromarray(sample.load_mask()), {}
        for seed, colour in ((1, (200, 30, 30)), (3, (30, 150, 60))):
            source = sample.load_source()
            kept[seed] = Image.composite(Image.new("RGB", source.size, colour), source, mask)
        judged = {seed: cosines(picture, sample, judges) for seed, picture in kept.items()}
        for name, values in rows[sample.id]["judged"].items():
            assert [values[0], values[2]] == [None, None]
            assert [values[1], values[3]] == pytest.approx(
                [judged[seed][name] for seed in (1, 3)], abs=2e-3
            )
        best = max(judged, key=lambda seed: sum(judged[seed].values()))
        assert rows[sample.id]["chosen_seed"] == best
        made = Image.open(run / "images" / f"{sample.id}.png")
        assert made.tobytes() == kept[best].tobytes()
    assert len(rows) == 3


def test_candidates_of_a_photo_are_chosen_by_a_run_s_texts_beside_a_typed_instruction(
    edits, tiny, follow, tmp_path
):
    with open_run("describe", {"split": "all"}, runs_dir=tmp_path, run=tmp_path / "told") as told:
        told.append("descriptions", {"id": "00", "scene_text": "a field with a red ball"})
    how = {"instruction": "add a ball", "captions": (str(tmp_path / "told"),), "steps": 1}
    config = tiny(EditConfig, edits / "source" / "00.png", candidates=2, **how)
    run = follow(edit, config, tmp_path / "run")
    (row,) = rows_of(run).values()
    assert (row["instruction"], list(row["judged"])) == ("add a ball", ["scene"])


def test_where_all_is_kept_no_judge_is_loaded(make_edits, tiny, follow, tmp_path, monkeypatch):
    config = tiny(EditConfig, make_edits(1), steps=1, split="all", candidates=2)
    run = follow(edit, config, tmp_path / "run")
    for kind in (RegionEncoder, SceneEncoder):
        monkeypatch.setattr(kind, "from_pretrained", lambda *given: pytest.fail("it was loaded"))
    before = (run / "images" / "00.png").stat().st_mtime_ns
    follow(edit, config, run)
    assert (run / "images" / "00.png").stat().st_mtime_ns == before


def test_a_judge_that_was_fitted_on_the_samples_is_refused_before_anything_is_edited(
    edits, tiny, follow, tmp_path
):
    judge = follow(fit_blip, tiny(FitBlipConfig, edits, epochs=1), tmp_path / "judge")
    how = {**FEW, "limit": 1, "candidates": 2, "region_clip": None, "scene_blip": str(judge)}
    with pytest.raises(RicError, match="were in the training data of"):
        follow(edit, tiny(EditConfig, edits, **how), tmp_path / "run")
    assert not list((tmp_path / "run" / "images").iterdir())
    config = tiny(EditConfig, edits, **how, allow_overlap=True)
    assert len(rows_of(follow(edit, config, tmp_path / "accepted"))) == 1


def test_judges_without_candidates_and_candidates_without_judges_are_refused():
    def refused(**settings: object) -> str:
        with pytest.raises(RicError) as caught:
            resolve_config(EditConfig, {"data": "a", "instruction": "x", **settings})
        return caught.value.message

    assert "--candidates needs a judge" in refused(candidates=3)
    assert "--region-clip chooses among candidates" in refused(region_clip="runs/1")
    assert "--choose-by chooses among candidates" in refused(choose_by="medoid")
    assert "Of two candidates each is as like the other" in refused(
        candidates=2, choose_by="medoid"
    )
    assert "--choose-by medoid needs no judge, and --scene-blip is one" in refused(
        candidates=2, choose_by="medoid", scene_blip="runs/1"
    )
    assert "--seeds does not go with --candidates" in refused(
        candidates=2, scene_blip="runs/1", seeds="0,1"
    )
    asked = {"data": "a", "preset": "tiny", "editor": "zone", "candidates": 2}
    with pytest.raises(RicError, match="--save-intermediates does not go with --candidates"):
        resolve_config(EditConfig, {**asked, "save_intermediates": True})


def test_candidates_count_in_the_work_and_their_judges_among_the_models():
    one = resolve_config(EditConfig, {"data": "scenes:9", "preset": "tiny"})
    four = resolve_config(EditConfig, {"data": "scenes:9", "preset": "tiny", "candidates": 4})
    assert unet_evaluations(four) == 4 * unet_evaluations(one)  # type: ignore[operator]
    settings = {model.row.setting for model in models_of(four)}
    assert settings - {model.row.setting for model in models_of(one)} == {
        "region_clip", "scene_blip",
    }  # fmt: skip
    asked = {"data": "scenes:9", "preset": "tiny", "candidates": 4, "choose_by": "medoid"}
    medoid = resolve_config(EditConfig, asked)
    assert {model.row.setting for model in models_of(medoid)} == settings - {
        "region_clip", "scene_blip",
    }  # fmt: skip
