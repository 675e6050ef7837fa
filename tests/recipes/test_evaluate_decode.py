"""`ric eval --decode`: profiles, orientation and alpha, as sRGB or as Pillow alone reads them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from display_p3 import adobe_rgb
from noting import Noting
from PIL import Image, ImageCms

from ric.config import EvalConfig, as_dict
from ric.errors import RicError
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring.scores import Scores
from ric.settings import resolve_config

SIZE = (48, 40)


@pytest.fixture
def photo() -> Image.Image:
    levels = np.random.default_rng(0).integers(0, 256, (*reversed(SIZE), 3), dtype=np.uint8)
    return Image.fromarray(levels)


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., Any]:
    """Score out/ on source/ by L1 to the source; return the rows, the run and the notes."""

    def call(**changes: Any) -> tuple[dict[str, Scores], Path, list[str]]:
        given = {
            "edits": (f"Mine={tmp_path / 'out'}",), "preset": "tiny", "device": "cpu",
            "source": str(tmp_path / "source"), "reference": "source", "metrics": "l1", **changes,
        }  # fmt: skip
        config, progress = resolve_config(EvalConfig, given), Noting()
        with open_run("eval", as_dict(config), runs_dir=tmp_path / "runs") as run:
            rows = evaluate(config, run, progress)
        return {row.label: row for row in rows}, run.path, progress.lines

    return call


def put(folder: Path, picture: Image.Image, **about: Any) -> Path:
    folder.mkdir(exist_ok=True)
    picture.save(folder / "a.png", **about)
    return folder / "a.png"


def told(run: Path) -> dict[str, Any]:
    return json.loads((run / "scores.json").read_text())


def test_a_dropped_profile_costs_nothing_when_levels_are_compared_and_its_conversion_otherwise(
    photo, score, tmp_path
):
    put(tmp_path / "source", photo, icc_profile=adobe_rgb())
    put(tmp_path / "out", photo)
    rows, run, notes = score(decode="plain")
    assert rows["Mine"]["l1"].value == 0
    assert told(run)["decode"] == "plain"
    theirs = ImageCms.ImageCmsProfile(io.BytesIO(adobe_rgb()))
    ours = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted = ImageCms.profileToProfile(photo, theirs, ours, outputMode="RGB")
    apart = np.abs(np.asarray(photo, float) - np.asarray(converted, float)).mean() / 255
    assert apart > 0.01
    rows, other, others = score()
    assert rows["Mine"]["l1"].value == pytest.approx(apart, abs=1e-9)
    assert told(other)["decode"] == "ric"
    for path, lines in ((run, notes), (other, others)):
        assert [row["profiles_apart"] for row in told(path)["editors"]] == [1, 0]
        assert any("Mine: of 1 of 1 outputs and their references, only one" in n for n in lines)
        assert "only one has a colour profile" in (path / "table.md").read_text()


def test_a_profile_on_both_sides_or_that_of_srgb_is_not_noted(photo, score, tmp_path):
    put(tmp_path / "source", photo, icc_profile=adobe_rgb())
    put(tmp_path / "out", photo, icc_profile=adobe_rgb())
    rows, run, _ = score()
    assert rows["Mine"]["l1"].value == 0
    assert told(run)["editors"][0]["profiles_apart"] == 0
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    put(tmp_path / "source", photo, icc_profile=srgb)
    put(tmp_path / "out", photo)
    _, run, notes = score()
    assert told(run)["editors"][0]["profiles_apart"] == 0
    assert not any("profile" in note for note in notes)


def test_plain_pictures_are_neither_turned_nor_laid_on_white(photo, score, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = photo.convert("RGBA")
    seen.putalpha(photo.getchannel("R"))
    turned = put(tmp_path / "source", seen, exif=exif)
    put(tmp_path / "out", Image.open(turned).convert("RGB"))  # as benchmarks' scripts read it
    rows, _, _ = score(decode="plain")
    assert rows["Mine"]["l1"].value == 0
    with pytest.raises(RicError, match=r"could be scored.*40x48"):
        score()


def test_benchmarks_protocols_decode_as_their_scripts_and_say_so_to_other_flags(photo, tmp_path):
    given = {"edits": ("Mine=out",), "data": "d", "preset": "tiny"}
    for protocol in ("magicbrush", "pie-bench"):
        assert resolve_config(EvalConfig, {**given, "protocol": protocol}).decode == "plain"
        with pytest.raises(RicError, match="fixes --decode as 'plain', not 'ric'"):
            resolve_config(EvalConfig, {**given, "protocol": protocol, "decode": "ric"})
    assert resolve_config(EvalConfig, given).decode == "ric"
