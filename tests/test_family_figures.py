"""What the embedded family must be worth on 300 test scenes: takes a quarter of an hour."""

from __future__ import annotations

import json

import pytest

from ric.config import EditConfig, EvalConfig, TinyScoreConfig, as_dict
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.tiny.score import score_family
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.weights.tiny_family import SHIPPED

pytestmark = pytest.mark.slow
FLAGS = {"data": "scenes:4000@64#3", "preset": "tiny", "limit": 300, "device": "cpu"}


@pytest.fixture(scope="module")
def shipped():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIC_TINY_FAMILY", str(SHIPPED))
        yield


@pytest.fixture(scope="module")
def members(shipped, tmp_path_factory):
    """Figures of all members but the editor, as `ric tiny score` gives them."""
    config = resolve_config(TinyScoreConfig, FLAGS)
    folder = tmp_path_factory.mktemp("score")
    with open_run("tiny-score", as_dict(config), runs_dir=folder) as run:
        return json.loads(score_family(config, run).read_text())


@pytest.fixture(scope="module")
def editor(shipped, tmp_path_factory):
    """The editor's scores beside identity's, as `ric edit` and `ric eval` give them."""
    folder = tmp_path_factory.mktemp("edit")
    config = resolve_config(EditConfig, FLAGS)
    with open_run("edit", as_dict(config), runs_dir=folder) as run:
        edit(config, run)
    config = resolve_config(EvalConfig, FLAGS | {"edits": (f"Ours={run.path}",)})
    with open_run("eval", as_dict(config), runs_dir=folder) as scored:
        rows = {row.label: row for row in evaluate(config, scored)}
    return rows["Ours"]


def test_the_autoencoder_reconstructs_at_28_db_at_least(members):
    assert members["samples"] == {"test": 300}
    assert members["vae"]["psnr"] >= 28


def test_recall_at_1_among_64_is_60_percent_for_regions_and_70_for_scenes(members):
    for direction in ("i2t", "t2i"):
        assert members["region_encoder"][f"{direction}_recall_at_1"] >= 0.6
        assert members["scene_encoder"][f"{direction}_recall_at_1"] >= 0.7


def test_the_captioner_names_colour_and_kind_of_the_edited_object_in_80_percent(members):
    assert members["captioner"]["names_edited"] >= 0.8


def test_edit_success_is_60_percent_and_the_exact_target_is_granted_it(members, editor):
    assert editor["edit_success"].value >= 0.6
    assert members["scene_classifier"]["success_of_exact_target"] >= 0.95
    assert members["scene_classifier"]["success_of_doing_nothing"] <= 0.02


def test_l1_inside_both_masks_is_below_identity_s_with_the_paired_interval_clear_of_zero(editor):
    gain = editor["l1_gain"]
    assert gain.interval[0] > 0


def test_psnr_outside_both_masks_is_25_db_at_least(editor):
    assert editor["psnr_preserved"].value >= 25
