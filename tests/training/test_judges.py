"""Judges are compared with what they were fitted on before they judge anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from noting import Noting

from ric.config import DescribeConfig, FitBlipConfig, FitClipConfig, TrainUnetConfig, as_dict
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.recipes.describe import describe
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.runs.descriptions import read_descriptions
from ric.runs.open_run import open_run
from ric.training.judges import compare_with_fits
from ric.work import open_work


@pytest.fixture(scope="module")
def runs(tiny, edits, follow, tmp_path_factory) -> dict[str, Path]:
    """Two runs of each fit, on different texts, and two describe runs."""
    folder = tmp_path_factory.mktemp("fits")
    clip = tiny(FitClipConfig, edits, fusion_epochs=1, joint_epochs=0, controls=False)
    blip = tiny(FitBlipConfig, edits, epochs=1)
    made = {
        name: follow(describe, tiny(DescribeConfig, edits, split="all"), folder / name)
        for name in ("words", "other-words")
    }
    made["regions"] = follow(fit_clip, clip, folder / "regions")
    other = replace(clip, region_text="instruction", image_size=72)
    made["orders"] = follow(fit_clip, other, folder / "orders")
    made["scenes"] = follow(fit_blip, blip, folder / "scenes")
    texts = folder / "texts.csv"
    ids = [sample.id for sample in load_samples(str(edits)).narrowed("all")]
    texts.write_text(
        "id,scene_text,region_text\n"
        + "".join(f"{name},scene {name},region {name}\n" for name in ids)
    )
    made["texts"] = texts
    for name, fit, config in (("texts-clip", fit_clip, clip), ("texts-blip", fit_blip, blip)):
        made[name] = follow(fit, replace(config, descriptions=str(texts)), folder / name)
    described = replace(blip, descriptions=str(made["words"]))
    made["described"] = follow(fit_blip, described, folder / "described")
    return made


@pytest.fixture
def compared(tiny, edits, tmp_path) -> Callable[..., list[str]]:
    """Compare judges with a training of these settings; give the lines that were said."""

    def compare(**changes: Any) -> list[str]:
        named = {
            key: str(value) if isinstance(value, Path) else value for key, value in changes.items()
        }
        config = tiny(TrainUnetConfig, named.pop("data", edits), **named)
        progress = Noting()
        judges = (config.region_clip, config.scene_blip)
        folder = tmp_path / "-".join(Path(judge).name for judge in judges if judge)
        with open_run("train-unet", as_dict(config), runs_dir=tmp_path, run=folder) as run:
            work = open_work(config, run, progress)
            texts = read_descriptions(config.descriptions, work.samples, run)
            compare_with_fits(config, work, texts)
        return progress.lines

    return compare


def test_judges_fitted_on_the_same_texts_are_taken_without_a_word(runs, compared):
    assert compared(region_clip=runs["regions"], scene_blip=runs["scenes"]) == []
    words = {"descriptions": runs["words"], "scene_blip": runs["described"]}
    assert compared(**words, region_clip="tiny") == []


def test_a_region_judge_fitted_on_other_texts_names_both_runs(runs, compared, tmp_path):
    with pytest.raises(RicError) as error:
        compared(region_clip=runs["orders"], scene_blip="tiny")
    assert str(runs["orders"]) in error.value.message
    assert str(tmp_path / "orders-tiny") in error.value.message
    assert "each sample's instruction" in error.value.message
    assert "--region-text instruction" in error.value.hint


@pytest.mark.parametrize(
    ("judge", "words", "said"),
    [
        ("scenes", "words", ("the data's own scene_text", "words")),
        ("described", "other-words", ("words", "other-words")),
        ("described", None, ("words", "the data's own scene_text")),
    ],
)
def test_a_scene_judge_fitted_on_other_paragraphs_names_both_runs(
    judge, words, said, runs, compared
):
    named = {"descriptions": runs[words]} if words else {}
    with pytest.raises(RicError) as error:
        compared(scene_blip=runs[judge], region_clip="tiny", **named)
    theirs, ours = (str(runs.get(name, name)) for name in said)
    assert f"was fitted on {theirs}; " in error.value.message
    assert error.value.message.endswith(f"would match scenes with {ours}.")


def test_judges_fitted_on_a_table_of_texts_take_the_same_texts_by_whatever_name(
    runs, compared, tmp_path
):
    judges = {"region_clip": runs["texts-clip"], "scene_blip": runs["texts-blip"]}
    copied = tmp_path / "copied.csv"
    copied.write_bytes(runs["texts"].read_bytes())
    for texts in (runs["texts"], copied):
        assert compared(**judges, descriptions=texts) == []
        shutil.rmtree(tmp_path / "texts-clip-texts-blip")
    copied.write_text(copied.read_text().replace("scene ", "room "))
    with pytest.raises(RicError, match=rf"{runs['texts']}; .* with {copied}"):
        compared(**judges, descriptions=copied)


def test_one_table_may_hold_the_texts_of_judges_that_were_fitted_on_a_table_each(
    runs, compared, tmp_path
):
    """The judges' table has two columns; here each alone, and both beside a third."""
    lines = [line.split(",") for line in runs["texts"].read_text().splitlines()]
    scenes, regions, wider = (tmp_path / f"{name}.csv" for name in ("scenes", "regions", "wider"))
    scenes.write_text("".join(f"{row[0]},{row[1]}\n" for row in lines))
    regions.write_text("".join(f"{row[0]},{row[2]}\n" for row in lines))
    texts = ["source_text", *("grass" for _ in lines[1:])]
    rows = zip(lines, texts, strict=True)
    wider.write_text("".join(f"{','.join(row)},{text}\n" for row, text in rows))
    region, scene = {"region_clip": runs["texts-clip"]}, {"scene_blip": runs["texts-blip"]}
    assert compared(**scene, region_loss=False, descriptions=scenes) == []
    assert compared(**region, global_loss=False, descriptions=regions) == []
    assert compared(**region, **scene, descriptions=wider) == []


@pytest.mark.parametrize(
    ("judge", "texts"), [("texts-clip", None), ("regions", "texts"), ("texts-clip", "words")]
)
def test_a_region_judge_is_refused_where_its_regions_are_told_in_other_words(
    judge, texts, runs, compared
):
    named = {"descriptions": runs[texts]} if texts else {}
    with pytest.raises(RicError, match=r"The region judge in .* was fitted on ") as error:
        compared(region_clip=runs[judge], global_loss=False, **named)
    assert "--descriptions" in error.value.hint


def test_paragraphs_alone_leave_a_region_judge_the_data_s_own_texts(runs, compared):
    words = {"descriptions": runs["words"], "scene_blip": runs["described"]}
    assert compared(**words, region_clip=runs["regions"]) == []


def test_data_and_judges_are_the_same_by_whatever_name(runs, compared, edits):
    for judge, data in (
        (runs["orders"], f"{edits.parent}/./{edits.name}"),
        (runs["orders"] / "region_encoder", edits),
    ):
        with pytest.raises(RicError, match="was fitted on each sample's instruction"):
            compared(region_clip=judge, scene_blip="tiny", data=data)


def test_another_size_of_pictures_is_told_in_a_line_with_both(runs, compared):
    settings = {"region_clip": runs["orders"], "scene_blip": "tiny", "region_text": "instruction"}
    assert compared(**settings) == [
        "the region judge was fitted on pictures of 72 px and sees 64 px here"
    ]


def test_a_judge_of_other_data_is_told_and_its_texts_are_its_own(runs, compared, make_edits, edits):
    named = {"scene_blip": runs["described"], "region_clip": "tiny", "data": make_edits(2)}
    assert compared(**named) == [f"the scene judge was fitted on {edits}"]
