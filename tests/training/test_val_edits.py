"""The same few val samples, edited while a UNet trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ric.config import TrainUnetConfig
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.progress import Silent
from ric.recipes.train_unet import train_unet
from ric.training import val_edits
from ric.training.val_edits import SHOWN

SETTINGS = {"steps": 4, "batch_size": 2, "ema": False, "region_loss": False, "global_loss": False}


@pytest.fixture(scope="module")
def watched(tiny, edits, follow, tmp_path_factory):
    config = tiny(TrainUnetConfig, edits, show_every=2, **SETTINGS)
    return follow(train_unet, config, tmp_path_factory.mktemp("watched") / "run")


def pixels(file) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"), int)


def test_every_k_steps_and_before_the_first_there_is_a_sheet_of_the_same_val_edits(watched):
    folders = sorted((watched / "val").iterdir())
    assert [folder.name for folder in folders] == ["step-000000", "step-000002", "step-000004"]
    for folder in folders:
        # three samples of the eleven are val's
        names = sorted(file.name for file in folder.iterdir())
        assert names == ["08.png", "09.png", "10.png", "sheet.png"]
    first, last = (pixels(folders[place] / "08.png") for place in (0, -1))
    assert (first != last).any()


def test_the_last_sheet_shows_what_the_exported_pipeline_makes(watched, edits):
    editor = InstructPix2Pix(
        watched / "pipeline", device=torch.device("cpu"), dtype="fp32",
        steps=8, guidance=1.5, image_guidance=1.05, image_size=64,
    )  # fmt: skip
    with Image.open(edits / "source" / "09.png") as source:
        request = EditRequest("09", source.convert("RGB"), "add a green ball near the tree")
    (made,) = editor.edit([request])
    apart = {
        step: np.abs(np.asarray(made, int) - pixels(watched / "val" / step / "09.png")).mean()
        for step in ("step-000000", "step-000004")
    }
    # in another memory format, and three at a time
    assert apart["step-000004"] < 0.1
    assert apart["step-000000"] > 5 * apart["step-000004"]


def test_watching_changes_nothing_of_the_training(
    watched, tiny, edits, follow, tmp_path, metrics_of
):
    config = tiny(TrainUnetConfig, edits, **SETTINGS)
    alone = follow(train_unet, config, tmp_path / "alone")
    assert not (alone / "val").exists()
    assert metrics_of(alone) == metrics_of(watched)
    ours, theirs = (
        load_file(run / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
        for run in (watched, alone)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_without_val_samples_nothing_is_shown_and_no_more_than_a_few_with_many(
    tiny, make_edits, follow, tmp_path, monkeypatch
):
    monkeypatch.setattr(val_edits, "STEPS", 2)
    settings = SETTINGS | {"steps": 1, "show_every": 1}
    none = follow(train_unet, tiny(TrainUnetConfig, make_edits(3), **settings), tmp_path / "none")
    assert not (none / "val").exists()
    # one of them cannot be read
    changes = {number: {"split": "val"} for number in range(2, 12)}
    data = make_edits(12, changes)
    (data / "source" / "02.png").write_bytes(b"no picture")
    many = follow(train_unet, tiny(TrainUnetConfig, data, **settings), tmp_path / "many")
    shown = sorted(file.stem for file in (many / "val" / "step-000001").glob("[01]*.png"))
    assert shown == [f"{number:02d}" for number in range(3, 3 + SHOWN)]


def test_a_look_that_fails_is_told_and_ends_nothing(tiny, edits, follow, tmp_path, monkeypatch):
    def fail(*_given):
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    class Listening(Silent):
        said: list[str] = []  # noqa: RUF012

        def note(self, message: str) -> None:
            self.said.append(message)

    monkeypatch.setattr(InstructPix2Pix, "edit", fail)
    config = tiny(TrainUnetConfig, edits, **SETTINGS | {"steps": 2, "show_every": 2})
    run = follow(train_unet, config, tmp_path / "run", Listening())
    assert (run / "pipeline").is_dir()
    assert Listening.said == [f"no val edits after step {n}: CUDA out of memory." for n in (0, 2)]


def test_the_curves_of_a_training_are_drawn(watched):
    with Image.open(watched / "curves.png") as picture:
        assert min(picture.size) > 500
