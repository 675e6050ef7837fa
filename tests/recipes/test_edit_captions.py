"""`ric edit` with an editor that goes from a source's caption to the edit's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from noting import Noting

from ric.config import EditConfig
from ric.errors import RicError
from ric.models.table import models_of
from ric.recipes.edit import edit
from ric.runs.open_run import open_run
from ric.settings import resolve_config

FEW = {"editor": "ddpm-inversion", "split": "all", "steps": 3, "skip": 1, "image_size": 32}
TEXTS = {"source_text": "a field", "target_text": "a field with a ball"}


def rows(run: Path, kind: str) -> list[dict[str, object]]:
    file = run / f"{kind}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def test_captions_come_from_the_data_and_are_recorded(make_edits, tiny, follow, tmp_path):
    data = make_edits(2, {0: TEXTS, 1: TEXTS})
    run = follow(edit, tiny(EditConfig, data, **FEW), tmp_path / "run")
    assert len(list((run / "images").iterdir())) == 2
    for row in rows(run, "edits"):
        assert {name: row[name] for name in TEXTS} == TEXTS
        assert (row["editor"], row["model"], row["skip"]) == ("ddpm-inversion", "tiny", 1)
        assert "instruction" not in row


def test_a_sample_without_captions_is_a_failure_that_names_the_columns(
    make_edits, tiny, follow, tmp_path
):
    data = make_edits(2, {1: TEXTS})
    run = follow(edit, tiny(EditConfig, data, **FEW), tmp_path / "run")
    (failure,) = rows(run, "failures")
    assert (failure["id"], failure["stage"]) == ("00", "captions")
    for said in ("source_text", "target_text", "--source-caption", "--target-caption"):
        assert said in str(failure["reason"])
    assert [row["id"] for row in rows(run, "edits")] == ["01"]


def test_typed_captions_go_before_the_data_s_and_serve_photos(make_edits, tiny, follow, tmp_path):
    data = make_edits(1, {0: TEXTS})
    typed = {"source_caption": "sand", "target_caption": ""}
    for name, place in (("data", data), ("photo", data / "source" / "00.png")):
        run = follow(edit, tiny(EditConfig, place, **FEW, **typed), tmp_path / name)
        (row,) = rows(run, "edits")
        assert row["source_text"] == "sand"


def test_captions_of_describe_runs_go_before_the_data_s_and_a_paragraph_serves_as_the_target_s(
    make_edits, tiny, follow, tmp_path
):
    data = make_edits(2, {0: TEXTS})
    told = [{"id": "00", "source_text": "sand"}, {"id": "01", "source_text": "a road"}]
    spoken = [{"id": "01", "scene_text": "A road and a tree."}]
    for name, texts in (("told", told), ("spoken", spoken)):
        with open_run("describe", {"split": "all"}, runs_dir=tmp_path, run=tmp_path / name) as run:
            for row in texts:
                run.append("descriptions", row)
    runs = (str(tmp_path / "told"), str(tmp_path / "spoken"))
    run = follow(edit, tiny(EditConfig, data, captions=runs, **FEW), tmp_path / "run")
    found = {row["id"]: (row["source_text"], row["target_text"]) for row in rows(run, "edits")}
    assert found == {
        "00": ("sand", TEXTS["target_text"]),
        "01": ("a road", "A road and a tree."),
    }
    with pytest.raises(RicError, match="No run at 'nowhere'"):
        follow(edit, tiny(EditConfig, data, captions=("nowhere",), **FEW), tmp_path / "other")


def test_a_paragraph_about_the_source_is_no_caption_of_the_edit(make_edits, tiny, follow, tmp_path):
    data, of_sources = make_edits(1, {0: TEXTS}), {"split": "all", "image": "source"}
    with open_run("describe", of_sources, runs_dir=tmp_path, run=tmp_path / "told") as told:
        for what, text in (("scene", "A field without a ball."), ("source", "sand")):
            told.append("descriptions", {"id": "00", "what": what, f"{what}_text": text})
    with open_run("describe", of_sources, runs_dir=tmp_path, run=tmp_path / "other") as other:
        other.append("descriptions", {"id": "00", "scene_text": "A field without a ball."})
    settings = tiny(EditConfig, data, captions=(str(tmp_path / "told"),), **FEW)
    (row,) = rows(follow(edit, settings, tmp_path / "run"), "edits")
    assert (row["source_text"], row["target_text"]) == ("sand", TEXTS["target_text"])
    settings = tiny(EditConfig, data, captions=(str(tmp_path / "other"),), **FEW)
    with pytest.raises(RicError, match=r"has no .* about the edit \(--image source\)\."):
        follow(edit, settings, tmp_path / "none")


def test_a_run_s_captions_of_a_photo_serve_all_its_edits(make_edits, tiny, follow, tmp_path):
    photos = make_edits(2) / "source"
    with open_run("describe", {"split": "all"}, runs_dir=tmp_path, run=tmp_path / "told") as told:
        for name in ("00", "01"):
            told.append("descriptions", {"id": name, **TEXTS, "source_text": f"field {name}"})
        told.append("descriptions", {"id": "01_seed7", "source_text": "sand"})
    settings = tiny(EditConfig, photos, captions=(str(tmp_path / "told"),), seeds="3,7", **FEW)
    run = follow(edit, settings, tmp_path / "run")
    assert rows(run, "failures") == []
    assert {row["id"]: (row["source_text"], row["target_text"]) for row in rows(run, "edits")} == {
        "00_seed3": ("field 00", TEXTS["target_text"]),
        "00_seed7": ("field 00", TEXTS["target_text"]),
        "01_seed3": ("field 01", TEXTS["target_text"]),
        "01_seed7": ("sand", TEXTS["target_text"]),
    }


def test_with_another_run_of_captions_only_edits_with_other_texts_are_made_anew(
    make_edits, tiny, follow, tmp_path
):
    data = make_edits(2, {0: TEXTS, 1: TEXTS})
    for name, caption in (("old", "sand"), ("new", "a road")):
        with open_run("describe", {"split": "all"}, runs_dir=tmp_path, run=tmp_path / name) as told:
            told.append("descriptions", {"id": "00", "source_text": "a field"})
            told.append("descriptions", {"id": "01", "source_text": caption})
    for name in ("old", "new"):
        settings, noting = tiny(EditConfig, data, captions=(str(tmp_path / name),), **FEW), Noting()
        run = follow(edit, settings, tmp_path / "run", noting)
    assert "1 kept, 1 changed" in noting.lines
    found = {row["id"]: row["source_text"] for row in rows(run, "edits")}
    assert found == {"00": "a field", "01": "a road"}


def test_an_editor_that_reads_instructions_takes_a_run_s_explicit_ones(
    make_edits, tiny, follow, tmp_path
):
    data = make_edits(2, {n: {"instruction": "make it red"} for n in range(2)})
    explicit = "Make the ball red, and its reflection in the water too."
    with open_run("describe", {"split": "all"}, runs_dir=tmp_path, run=tmp_path / "told") as told:
        told.append("descriptions", {"id": "01", "explicit_instruction": explicit})
        told.append("descriptions", {"id": "00", "source_text": "sand"})
    settings = tiny(EditConfig, data, split="all", steps=2, captions=(str(tmp_path / "told"),))
    run = follow(edit, settings, tmp_path / "run")
    found = {row["id"]: row["instruction"] for row in rows(run, "edits")}
    assert found == {"00": "make it red", "01": explicit}
    with open_run("describe", {"split": "all"}, runs_dir=tmp_path, run=tmp_path / "other") as other:
        other.append("descriptions", {"id": "00", "source_text": "sand"})
    settings = tiny(EditConfig, data, split="all", captions=(str(tmp_path / "other"),))
    with pytest.raises(RicError, match="has no explicit_instruction"):
        follow(edit, settings, tmp_path / "none")
    with pytest.raises(RicError, match="--captions names each one's"):
        resolve_config(EditConfig, {"data": "x", "instruction": "make it red", "captions": ("1",)})


def test_only_the_model_that_the_editor_loads_is_looked_for():
    def settings(**flags: object) -> list[str]:
        config = resolve_config(EditConfig, {"data": "photos", **flags})
        return [model.row.setting for model in models_of(config)]

    assert settings() == ["unet"]
    assert settings(editor="ddpm-inversion") == ["text_to_image"]


@pytest.mark.parametrize(
    ("editor", "flag"), [("ip2p", "skip"), ("ip2p", "source_caption"), ("ddpm-inversion", "unet")]
)
def test_a_setting_of_another_editor_is_refused(editor, flag):
    value = 3 if flag == "skip" else "x"
    with pytest.raises(RicError, match=f"--editor {editor} does not use --{flag[:5]}"):
        resolve_config(EditConfig, {"data": "photos", "editor": editor, flag: value})


def test_an_editor_s_own_defaults_give_way_to_what_is_typed_or_in_a_file():
    def guidance(**flags: object) -> float:
        from_file = {"guidance": 9.0} if flags.pop("file", False) else {}
        given = {"data": "photos", "editor": "ddpm-inversion", **flags}
        return resolve_config(EditConfig, given, from_file=from_file).guidance

    assert guidance() == 15.0
    assert guidance(guidance=4.0) == 4.0
    assert guidance(file=True) == 9.0
    assert resolve_config(EditConfig, {"data": "photos"}).guidance == 7.5
