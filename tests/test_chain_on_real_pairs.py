"""The whole chain on real pictures, typed as a user types it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from ric_cli.main import main

SHARED = Path(__file__).parents[2] / "shared" / "data"
TINY = ("--preset", "tiny", "--split", "all", "--quiet")


@pytest.fixture
def ric(tmp_path, monkeypatch, capsys, tiny_family):
    if not SHARED.is_dir():
        pytest.skip("../shared is absent")
    monkeypatch.chdir(tmp_path)

    def typed(*words: object) -> Path:
        monkeypatch.setattr(sys, "argv", ["ric", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert left.value.code in (0, None), said.err
        return Path(said.out.strip().splitlines()[-1])

    return typed


def test_the_six_commands_run_as_one_chain_on_the_six_real_pairs(ric, tmp_path):
    shutil.copytree(SHARED / "humanedit-six", "pairs")
    ids = {"action", "add", "counting", "relation", "remove", "replace"}
    ric("describe", "pairs", "--preset", "tiny", "--quiet")
    ric("fit-clip", "pairs", *TINY, "--fusion-epochs", 1, "--joint-epochs", 1)
    ric("fit-blip", "pairs", *TINY, "--epochs", 1, "--descriptions", "@describe")
    judges = ("--region-clip", "@fit-clip", "--scene-blip", "@fit-blip")
    ric("train-unet", "pairs", *TINY, "--steps", 2, "--descriptions", "@describe", *judges)
    edit = ("edit", "pairs", *TINY, "--steps", 2, "--unet", "@train-unet", "--allow-overlap")
    images = ric(*edit)
    ric("eval", "Ours=@edit", "--data", "pairs", *TINY, "--allow-overlap")

    for name in ids:
        edited = Image.open(images / f"{name}.png")
        assert edited.size == Image.open(f"pairs/{name}_source.png").size
        # what was drawn is a picture and not one colour
        assert max(high - low for low, high in edited.getextrema()) > 50
    scores = json.loads(Path("runs/00006-eval/scores.json").read_text())
    labels = [row["label"] for row in scores["editors"]]
    assert labels == ["Ours", "Identity (source)", "Ground truth"]
    assert all(score["value"] is not None for score in scores["editors"][0]["scores"].values())
    parents = json.loads(Path("runs/00004-train-unet/run.json").read_text())["parents"]
    assert {Path(parent).name for parent in parents} == {
        "00001-describe",
        "00002-fit-clip",
        "00003-fit-blip",
    }


def test_every_real_photo_is_edited_in_its_own_size_and_no_mask_is(ric):
    photos = SHARED / "photos"
    images = ric("edit", photos, "make it night", "--preset", "tiny", "--steps", 1, "--quiet")
    sources = {path.stem: path for path in photos.iterdir() if not path.stem.endswith("_mask")}
    # a file named for another format gets the ending of its own
    made = {path.stem: path for path in images.iterdir()}
    assert made.keys() == sources.keys()
    for name, path in sources.items():
        assert Image.open(made[name]).size == Image.open(path).size
