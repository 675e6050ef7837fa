"""Which models each command loads: one table for preflight, the planner, eval and the recipes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ric
from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TinyScoreConfig,
    TinyVaeConfig,
    TrainUnetConfig,
    command_of,
)
from ric.models.table import EVAL_NETWORKS, MODELS, commands_for, models_of
from ric.settings import resolve_config
from ric.weights import WEIGHTS, find_weight
from ric.weights.tiny_family import SHIPPED

NOT_IN_THE_FAMILY = ("loss_decoder", "segmenter", "text_segmenter")
CORE = Path(ric.__file__).parent


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.__name__)
def test_a_row_names_a_setting_of_its_command_and_a_member_of_the_family(kind):
    for row in MODELS[kind]:
        # where no setting names a model, its row is called as the member
        assert hasattr(kind(data="photos"), row.setting) or row.setting == row.tiny
        assert (SHIPPED / row.tiny).is_dir() or row.tiny in NOT_IN_THE_FAMILY


PAPERS = (DescribeConfig, FitClipConfig, FitBlipConfig, TrainUnetConfig, EditConfig, EvalConfig)


@pytest.mark.parametrize("kind", PAPERS, ids=lambda kind: kind.__name__)
def test_a_weight_that_a_command_loads_by_default_is_one_that_it_is_said_to_need(kind):
    config = kind(data="photos", **({"edits": ("a=b",)} if kind is EvalConfig else {}))
    loaded = {model.name for model in models_of(config) if find_weight(model.name)}
    assert loaded
    for name in loaded:
        assert command_of(config) in commands_for(name)


def test_what_a_row_may_name_stands_in_the_table_of_weights():
    rows = [row for rows in MODELS.values() for row in rows]
    known = {name for row in (*rows, *EVAL_NETWORKS.values()) for name in row.known}
    assert known == {weight.id for weight in WEIGHTS} - {"tiny"}
    assert commands_for("timbrooks/instruct-pix2pix") == ("train-unet", "edit")
    assert commands_for("tiny") == tuple(command_of(kind) for kind in PAPERS)


def test_a_model_that_the_settings_leave_unused_is_not_listed():
    def names(**settings) -> list[str]:
        config = resolve_config(TrainUnetConfig, {"data": "photos", "preset": "tiny", **settings})
        return [model.row.setting for model in models_of(config)]

    assert names() == ["base", "region_clip", "scene_blip"]
    assert names(region_loss=False) == ["base", "scene_blip"]
    assert names(global_loss=False) == ["base", "region_clip"]
    assert names(loss_decoder="madebyollin/taesd")[-1] == "loss_decoder"
    describe = resolve_config(DescribeConfig, {"data": "photos", "describer": "dataset"})
    assert list(models_of(describe)) == []


def test_evals_networks_follow_the_protocol():
    def names(**settings) -> list[str]:
        return [model.name for model in models_of(EvalConfig(data="photos", **settings))]

    assert names(protocol="magicbrush")[1:] == [EvalConfig.dino]
    assert names(protocol="pie-bench")[-1] == "lpips-squeeze"
    assert "lpips-vgg" in names(lpips_net="vgg")
    assert names(preset="tiny")[-1] == "tiny"


def test_what_reads_drawn_scenes_is_listed_for_them_alone():
    def members(kind, **settings) -> list[str]:
        return [model.row.setting for model in models_of(kind(**settings)) if model.name == "tiny"]

    assert members(EvalConfig, data="photos") == []
    assert members(EvalConfig, data="scenes:9") == ["scene_classifier"]
    assert members(EvalConfig, data="scenes:9", metrics="l1,clip-t") == []
    assert members(EvalConfig, data="scenes:9", protocol="magicbrush") == []


def test_every_member_that_the_recipe_scores_is_listed():
    source = (CORE / "recipes/tiny/score.py").read_text()
    called = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    loaded = {node.args[0].value for node in called if getattr(node.func, "id", "") == "member"}
    listed = [model.row.tiny for model in models_of(TinyScoreConfig(data="scenes:9"))]
    assert sorted(listed) == sorted(loaded)
    assert [model.name for model in models_of(TinyScoreConfig())] == ["tiny"] * len(listed)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(TrainUnetConfig, "train-unet"), (FitClipConfig, "fit-clip"), (TinyVaeConfig, "tiny vae")],
)
def test_a_command_is_named_as_it_is_typed(kind, words):
    assert command_of(kind(data="photos")) == words


def test_no_other_file_says_which_member_or_artifact_a_setting_means():
    """Only scoring's finder and what is not a setting's name a member themselves."""
    allowed = {"models/locate.py", "scoring/load_networks.py", "recipes/tiny/score.py"}
    for path in CORE.rglob("*.py"):
        named = [
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("locate_model", "locate_named")
        ]
        assert not named or str(path.relative_to(CORE)) in allowed, path


def test_no_other_file_decides_whether_a_model_is_used():
    """Whether a loss or a small decoder is on is asked by `uses`, not read from the settings."""
    deciding = {"region_loss", "global_loss"}
    for path in CORE.rglob("*.py"):
        if path.name in ("config.py", "table.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            read = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
            if isinstance(node, ast.Attribute):
                assert node.attr not in deciding, path
            if isinstance(node, ast.Compare):
                assert not read & {"loss_decoder", "segmenter"}, path


def test_the_table_needs_no_torch():
    code = "import sys, ric.models.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
