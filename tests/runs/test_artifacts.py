"""What leaves a run for other people holds nothing of the machine that made it."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pytest

from ric.config import EditConfig, EvalConfig, FitBlipConfig, FitClipConfig, TrainUnetConfig
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.train_unet import train_unet
from ric.runs.artifacts import judge_card, pipeline_card, public_name, public_text
from ric.runs.open_run import open_run
from ric.table_text import in_markdown

EXPORTED = (
    "1-fit-clip/region_encoder",
    "2-fit-blip/scene_encoder",
    "3-train-unet/pipeline",
    "3-train-unet/lora",
    "4-edit/images",
    "4-edit/edits.jsonl",
    "5-eval/scores.json",
    "5-eval/table.md",
    "5-eval/table.tex",
)


@pytest.fixture(scope="module")
def chain(tiny, edits, follow, tiny_family, tmp_path_factory) -> Path:
    """Five commands, each given its models and data by absolute paths."""
    runs = tmp_path_factory.mktemp("runs")

    def take(number: int, recipe, kind, **settings) -> Path:
        name = f"{number}-{recipe.__name__.replace('_', '-').replace('evaluate', 'eval')}"
        return follow(recipe, tiny(kind, edits, **settings), runs / name)

    once = {"batch_size": 8, "checkpoint_every": 1}
    clip, blip = str(tiny_family / "clip"), str(tiny_family / "scene_encoder/blip")
    region = take(1, fit_clip, FitClipConfig, clip=clip, fusion_epochs=1, joint_epochs=0, **once)
    scene = take(2, fit_blip, FitBlipConfig, blip=blip, epochs=1, **once)
    unet = take(
        3, train_unet, TrainUnetConfig, steps=1, lora_rank=2, base=str(tiny_family / "pipeline"),
        region_clip=str(region), scene_blip=str(scene), **(once | {"batch_size": 2}),
    )  # fmt: skip
    few = {"limit": 2, "split": "all"}
    made = take(
        4, edit, EditConfig, unet=str(unet / "pipeline"), allow_overlap=True, steps=1,
        image_size=32, **few,
    )  # fmt: skip
    take(5, evaluate, EvalConfig, edits=(f"Mine={made / 'images'}",), clip=clip, **few)
    return runs


@pytest.mark.parametrize("artifact", EXPORTED)
def test_no_artifact_holds_a_path_of_this_machine(artifact, chain):
    place = chain / artifact
    files = [file for file in place.rglob("*") if file.is_file()] or [place]
    assert all(file.stat().st_size for file in files)
    ours = {tempfile.gettempdir(), str(Path.home()), str(Path(__file__).parents[2]), str(chain)}
    for file in files:
        for path in ours:
            assert path.encode() not in file.read_bytes(), (file, path)


@pytest.mark.parametrize(
    ("setting", "written"),
    [
        ("/home/me/models/clip", "clip"),
        ("../models/clip/", "clip"),
        ("file:///home/me/clip", "clip"),
        ("/home/me/my_editor.py:Mine", "my_editor.py:Mine"),
        (["/home/me/a", 3], ["a", 3]),
        ("openai/clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
        ("s3://bucket/edits", "s3://bucket/edits"),
        ("scenes:160@64#3", "scenes:160@64#3"),
        ("@train-unet", "@train-unet"),
        ("tiny", "tiny"),
        (0.5, 0.5),
        (None, None),
    ],
)
def test_what_lies_on_this_machine_is_named_by_its_last_part_alone(setting, written):
    assert public_name(setting) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Cannot read /home/me/clip/config.json: no JSON.", "Cannot read config.json: no JSON."),
        ("'/home/me/my clip' is no model.", "'my clip' is no model."),
        ("Put it in ~/weights/clip, or in ../clip.", "Put it in clip, or in clip."),
        ("openai/clip is missing: ric weights get openai/clip", None),
        ("See https://hub.example/a/b; share 1/2 and/or all", None),
    ],
)
def test_a_sentence_for_others_holds_no_path_of_this_machine(text, written):
    assert public_text(text) == (written or text)


@pytest.mark.parametrize("card", [pipeline_card, lambda run, base: judge_card(run, "judge", base)])
def test_nothing_that_others_wrote_is_obeyed_in_a_card(card, tmp_path):
    odd = "a<img src=x>[b](http://c)`|*d*\u202e\n# e"
    config = {"data": odd, "split": "train", "columns": odd}
    with open_run("fit-clip", config, runs_dir=tmp_path, run=tmp_path / "run") as run:
        (run.path / "retrieval.json").write_text("{}")
        run.note(data={"name": odd, "fingerprint": "0" * 64}, truncated_texts={})
        body = card(run, odd).split("---\n")[2]
    assert body.count(in_markdown(odd)) >= 2
    assert not re.search(r"(?<!\\)[<\[*|]", body.partition("\n|")[0])  # before its tables
    assert "\n# e" not in body
    assert "\u202e" not in body
