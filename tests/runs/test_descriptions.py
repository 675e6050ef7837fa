"""Texts made elsewhere: a folder of them, or a table of id and text, in place of a describe run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ric.config import FitBlipConfig, FitClipConfig, TrainUnetConfig, as_dict
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.inputs.examples import Needs, load_examples
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.runs.descriptions import Descriptions, read_descriptions
from ric.runs.open_run import open_run
from ric.runs.run import RunDir
from ric.work import open_work

TEXTS = {"00": "a café with a red ball", "01": "a field"}


def write(place: Path, kind: str, texts: dict[str, str] = TEXTS) -> Path:
    """Write texts as a folder, JSON lines or CSV."""
    if kind == "folder":
        place.mkdir()
        for name, text in texts.items():
            (place / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
        return place
    file = place.with_suffix(f".{kind}")
    if kind == "jsonl":
        lines = [json.dumps({"id": name, "text": text}) for name, text in texts.items()]
    else:
        lines = ["id,scene_text", *(f'{name},"{text}"' for name, text in texts.items())]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.fixture
def run(edits: Path, tiny: Callable[..., Any], tmp_path: Path) -> RunDir:
    config = tiny(TrainUnetConfig, edits)
    return open_run("train-unet", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run")


@pytest.fixture
def read(run: RunDir, edits: Path) -> Callable[[Path], Descriptions | None]:
    return lambda place: read_descriptions(str(place), load_samples(edits), run)


def failures(run: RunDir) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in run.rows("failures")}


@pytest.mark.parametrize("kind", ["folder", "jsonl", "csv"])
def test_texts_made_elsewhere_are_those_of_the_samples_they_name(read, run, tmp_path, kind):
    place = write(tmp_path / "texts", kind)
    assert read(place).texts == {"scene_text": TEXTS}
    assert run.record["descriptions"]["name"] == str(place)
    assert run.record["parents"] == []
    assert failures(run) == {}


def test_a_table_may_hold_texts_of_several_kinds(read, tmp_path):
    table = tmp_path / "texts.csv"
    table.write_text("id,scene_text,region_text\n00,a field,a ball\n01,,a dog\n")
    assert read(table).texts == {
        "scene_text": {"00": "a field"},
        "region_text": {"00": "a ball", "01": "a dog"},
    }


def test_region_texts_made_elsewhere_replace_the_datas_and_leave_its_scene_texts(
    run, read, edits, tiny, tmp_path
):
    table = tmp_path / "texts.jsonl"
    table.write_text('{"id": "00", "region_text": "a balloon"}\n')
    config = tiny(TrainUnetConfig, edits, limit=2)
    needs = Needs(64, region_text="region_text", descriptions=read(table))
    first, second = load_examples(config, open_work(config, run), "train", needs)
    assert (first.region_text, second.region_text) == ("a balloon", None)
    assert first.scene_text == "the picture shows a red ball near on grass number 0"


def test_what_cannot_be_used_is_listed_and_the_rest_is_taken(read, run, tmp_path):
    folder = write(tmp_path / "folder", "folder")
    (folder / "02.txt").write_bytes("café".encode("cp1252"))
    (folder / "03.txt").write_text(" \n")
    assert read(folder).texts == {"scene_text": TEXTS}
    found = failures(run)
    assert "is not UTF-8: byte 0xE9" in found["02.txt"]
    assert found["03"] == "03.txt has no text for it"
    run.record.pop("descriptions")
    table = write(tmp_path / "table", "jsonl")
    with table.open("ab") as stream:
        stream.write(b'{"id": "02", "text\n{"text": "x"}\n{"id": "01", "text": "again"}\n["02"]\n')
    assert read(table).texts == {"scene_text": TEXTS}
    found = failures(run)
    assert "is not JSON" in found["table.jsonl:3"]
    assert found["table.jsonl:4"] == "it has no id"
    assert found["01"] == f"{table} has two texts scene_text for it; the first is taken"
    assert "not a JSON object but a list" in found["table.jsonl:6"]


def test_what_holds_no_texts_that_are_read_is_refused(read, run, edits, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts.yaml").write_text("00: a ball\n")
    (tmp_path / "other.csv").write_text("ID,caption\n00,a ball\n")
    (tmp_path / "local.csv").write_text("id;scene_text\n00;a ball\n")
    for name, message in (
        ("nowhere", "No run at '.*nowhere'"),
        ("empty", "neither a run nor a folder of .txt files"),
        ("texts.yaml", "neither a .jsonl nor a .csv"),
        ("other.csv", r"has the columns ID, caption\."),
        ("local.csv", "separate cells by commas, not semicolons"),
    ):
        with pytest.raises(RicError, match=message) as caught:
            read(tmp_path / name)
        assert "a folder of ID.txt" in caught.value.hint
    place = str(write(tmp_path / "scenes", "jsonl"))
    with pytest.raises(RicError, match="has no region_text") as caught:
        read_descriptions(place, load_samples(edits), run, ("region_text",))
    assert caught.value.hint == "Write them: ric describe DATA --what region"
    other = write(tmp_path / "other", "csv", {"elsewhere": "a ball"})
    with pytest.raises(RicError, match="none of its 1 ids match"):
        read(other)


def test_scenes_and_regions_of_the_sources_are_no_texts_of_the_targets(read, tmp_path):
    for image in ("source", "target"):
        settings = {"split": "all", "image": image}
        with open_run("describe", settings, runs_dir=tmp_path, run=tmp_path / image) as told:
            told.append("descriptions", {"id": "00", "scene_text": "A field with a ball."})
    assert read(tmp_path / "target").texts == {"scene_text": {"00": "A field with a ball."}}
    with pytest.raises(RicError, match=r"has no scene_text .*about the target \(--image source\)"):
        read(tmp_path / "source")


def test_a_resumed_run_refuses_texts_that_changed(read, run, tmp_path):
    folder = write(tmp_path / "texts", "folder")
    read(folder)
    assert read(folder)
    (folder / "00.txt").write_text("a green ball")
    with pytest.raises(RicError, match=r"The texts in .* have changed since this run began"):
        read(folder)


@pytest.mark.parametrize(
    ("recipe", "kind", "column", "epochs"),
    [
        (fit_blip, FitBlipConfig, "scene_text", {"epochs": 1}),
        (fit_clip, FitClipConfig, "region_text", {"fusion_epochs": 1, "joint_epochs": 0}),
    ],
    ids=["scene", "region"],
)
def test_a_judge_is_fitted_on_a_table_of_texts(
    recipe, kind, column, epochs, make_edits, tiny, follow, tmp_path
):
    data = make_edits(3, {n: {column: None} for n in range(3)})
    table = tmp_path / "texts.csv"
    table.write_text(f"id,{column}\n" + "".join(f"{n:02d},picture {n}\n" for n in range(3)))
    run = follow(recipe, tiny(kind, data, descriptions=str(table), **epochs), tmp_path / "fit")
    assert len((run / "samples.jsonl").read_text().splitlines()) == 3
