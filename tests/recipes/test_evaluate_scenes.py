"""`ric eval` on drawn scenes, whose right answer is known: four crafted editors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ric.config import EvalConfig, as_dict
from ric.data.drawn_scenes import parse_scenes
from ric.metric_table import OF_SCENES
from ric.metrics.context_error import l1_inside
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring.scores import Scores
from ric.settings import resolve_config
from ric.weights.tiny_family import SHIPPED

DATA = "scenes:250#11"  # about 25 of test
EDITORS = ("Exact", "Sticker", "Nothing", "Repaint")


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> tuple[dict[str, Scores], Path]:
    """Score the exact target, the target pasted into the mask alone, the source, and grey."""
    folder = tmp_path_factory.mktemp("crafted")
    stream = parse_scenes(DATA)
    for sample in stream.of_split("test"):
        _, pair = stream.draw(int(sample.id[-6:]))
        sticker = pair.source.copy()
        sticker[pair.mask] = pair.target[pair.mask]
        made = (pair.target, sticker, pair.source, np.full_like(pair.source, 128))
        for name, pixels in zip(EDITORS, made, strict=True):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{sample.id}.png")
    edits = tuple(f"{name}={folder / name}" for name in EDITORS)
    with pytest.MonkeyPatch.context() as patch:
        # only trained networks read what was asked for
        patch.setenv("RIC_TINY_FAMILY", str(SHIPPED))
        flags = {"data": DATA, "edits": edits, "preset": "tiny", "device": "cpu"}
        flags["metrics"] = ",".join(("l1", *OF_SCENES))
        config = resolve_config(EvalConfig, flags)
        with open_run("eval", as_dict(config), runs_dir=folder) as run:
            rows = evaluate(config, run)
    return {row.label: row for row in rows}, run.path


def test_the_exact_target_has_no_error_and_no_sticker(scored):
    exact = scored[0]["Exact"]
    assert exact["edit_success"].value >= 0.9
    for key in ("l1_inside", "region_error", "context_error", "sticker_rate"):
        assert exact[key].value == 0
    assert exact["psnr_preserved"].value == 100


def test_a_sticker_is_right_in_its_region_and_wrong_around_it(scored):
    sticker = scored[0]["Sticker"]
    assert sticker["edit_success"].value >= 0.85
    assert sticker["region_error"].value == 0
    assert sticker["context_error"].value == pytest.approx(1)
    assert sticker["sticker_rate"].value == 1


def test_doing_nothing_is_the_measure_of_all_errors(scored):
    nothing = scored[0]["Nothing"]
    assert nothing["edit_success"].value <= 0.04
    assert nothing["region_error"].value == nothing["context_error"].value == pytest.approx(1)
    assert nothing["l1_gain"].value == 0
    assert nothing["psnr_preserved"].value == 100
    for key in OF_SCENES:
        assert nothing[key].value == scored[0]["Identity (source)"][key].value


def test_a_repaint_of_everything_preserves_nothing(scored):
    repaint = scored[0]["Repaint"]
    assert repaint["edit_success"].value <= 0.3  # a grey place may be as empty as it should be
    assert repaint["psnr_preserved"].value < 20
    assert repaint["context_error"].value > 1


def test_l1_inside_both_masks_and_its_gain_are_what_one_reckons_by_hand(scored):
    stream = parse_scenes(DATA)
    sticker, nothing = [], []
    for sample in stream.of_split("test"):
        _, pair = stream.draw(int(sample.id[-6:]))
        inside = pair.mask | pair.context_mask
        apart = np.abs(pair.source.astype(float) - pair.target)
        nothing.append(apart[inside].mean() / 255)
        apart[pair.mask] = 0
        sticker.append(apart[inside].mean() / 255)
    row = scored[0]["Sticker"]
    assert row["l1_inside"].value == pytest.approx(np.mean(sticker))
    assert row["l1_gain"].value == pytest.approx(np.mean(nothing) - np.mean(sticker))
    low, high = row["l1_gain"].interval
    assert 0 < low < row["l1_gain"].value < high


def test_relative_errors_count_each_sample_by_how_much_had_to_change(scored):
    lines = (scored[1] / "per_sample.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["label"] == "Repaint"]
    held = [row for row in rows if row["context_error"] is not None]
    wrong = sum(row["context_error"] * row["context_weight"] for row in held)
    assert scored[0]["Repaint"]["context_error"].value == pytest.approx(
        wrong / sum(row["context_weight"] for row in held)
    )
    assert scored[0]["Repaint"]["context_error"].n == len(held)


def test_the_table_sets_them_beside_the_others_with_their_meaning(scored):
    table = (scored[1] / "table.md").read_text()
    assert "L1 ↓" in table
    assert "Edit success ↑" in table
    assert "Sticker rate ↓" in table
    assert "share of edits in which the scene classifier reads what was asked for" in table


def test_data_that_is_no_scenes_has_none_of_them(make_edits, tiny, tmp_path):
    data = make_edits(3)
    flags = tiny(EvalConfig, data, edits=(f"A={data / 'target'}",), split="all")
    with open_run("eval", as_dict(flags), runs_dir=tmp_path) as run:
        rows = evaluate(flags, run)
    assert not {score.key for row in rows for score in row.scores} & set(OF_SCENES)


def test_l1_inside_is_the_mean_over_the_marked_pixels_alone():
    a = Image.new("RGB", (4, 1), (0, 0, 0))
    b = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 0], [9, 9, 9], [9, 9, 9]]], np.uint8))
    where = np.array([[True, True, False, False]])
    assert l1_inside(a, b, where) == pytest.approx(1 / 6)
