"""A small chain of runs: a training, two editors' edits of six samples, and their scores."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

from ric.config import EditConfig, EvalConfig, TrainUnetConfig, as_dict
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run

HTML = '<img src=x onerror="document.title=1"></script><b>make it red</b> & "go"'
TYPES = ["Add", "Remove"]
COUNT = 6
LOSSES = [0.5, 0.4, 0.25]


class Chain(NamedTuple):
    """The folder of runs, DATA, and the eval run."""

    runs: Path
    data: Path
    scored: Path


@pytest.fixture(scope="session")
def chain_once(
    make_edits: Callable[..., Path],
    tiny: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Chain:
    changes: dict[int, dict[str, Any]] = {
        number: {"editing_type": TYPES[number % 2], "split": "test"} for number in range(COUNT)
    }
    changes[2] |= {"instruction": HTML, "region_text": "a <i>ball</i>"}
    data = make_edits(COUNT, changes)
    runs = tmp_path_factory.mktemp("chain")
    training = tiny(TrainUnetConfig, data, base="timbrooks/instruct-pix2pix", lr=3e-5)
    with open_run("train-unet", as_dict(training), runs_dir=runs) as trained:
        for step, loss in enumerate(LOSSES, 1):
            trained.log_metrics({"step": step, "loss": loss, "cos_region": 1 - loss, "lr": 3e-5})
        known = {"id": "timbrooks/instruct-pix2pix", "revision": "31519b5cb02a7fd8"}
        judge = {"id": "@fit-clip", "revision": None}
        trained.note(weights={"pipeline": known, "region_encoder": judge})
        trained.note(resolved={"@fit-clip": "../00000-fit-clip"}, parents=["../00000-fit-clip"])
        trained.note(data={"name": str(data), "fingerprint": "f"})
    for share in (0.0, 0.75):  # nothing done; three quarters of the way to the target
        config = tiny(EditConfig, data, unet=str(trained.path), split="test")
        with open_run("edit", as_dict(config), runs_dir=runs) as run:
            run.add_parent(trained.path)
            run.note(data={"name": str(data), "fingerprint": "f"})
            (run.path / "images").mkdir()
            for number in range(COUNT):
                both = [
                    Image.open(data / name / f"{number:02d}.png") for name in ("source", "target")
                ]
                Image.blend(*both, share).save(run.path / "images" / f"{number:02d}.png")
                run.append(
                    "edits", {"id": f"{number:02d}", "file_name": f"images/{number:02d}.png"}
                )
    config = tiny(
        EvalConfig,
        data,
        edits=("Plain=2", "In context=3"),
        metrics="l1,psnr-outside",
        split="test",
    )
    with open_run("eval", as_dict(config), runs_dir=runs) as run:
        evaluate(config, run)
    return Chain(runs, data, run.path)


@pytest.fixture
def chain(chain_once: Chain, tmp_path: Path) -> Chain:
    """The same in a folder of its own, to be changed."""
    runs, data = (shutil.copytree(chain_once[place], tmp_path / str(place)) for place in (0, 1))
    for file in runs.glob("*/run.json"):
        file.write_text(file.read_text().replace(str(chain_once.data), str(data)))
    return Chain(runs, data, runs / chain_once.scored.name)


@pytest.fixture(scope="session")
def gallery_of() -> Callable[[Path], dict[str, Any]]:
    """Read what a page's script reads."""

    def read(page: Path) -> dict[str, Any]:
        text = page.read_text("utf-8")
        found = re.search(r'<script id="gallery" type="application/json">(.*?)</script>', text)
        assert found
        return json.loads(found[1])

    return read
