"""What is missing is said before anything heavy is loaded; what a command costs is arithmetic."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import ric.device
import ric.preflight.checks
import ric.preflight.describers
import ric.weights.resolve
from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)
from ric.editors.editor import EditRequest
from ric.editors.load import load_editor
from ric.errors import RicError
from ric.preflight.checks import check, find_problems
from ric.preflight.cost import unet_evaluations
from ric.preflight.dry_run import plan
from ric.preflight.pipelines import refuse_other_pipelines
from ric.runs.open_run import open_run
from ric.settings import resolve_config

CLIP = "openai/clip-vit-base-patch16"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "edits"
    folder.mkdir()
    rows = []
    for number in range(20):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(folder / f"{number}.png")
        names = {"source_file_name": f"{number}.png", "target_file_name": f"{number}.png"}
        rows.append({"id": str(number), **names, "instruction": "make it red"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RIC_CACHE_DIR", str(tmp_path / "cache/ric"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


# --- check -----------------------------------------------------------------------------------


def test_all_that_the_tiny_preset_needs_is_there(data, runs):
    for kind in (DescribeConfig, FitClipConfig, FitBlipConfig, TrainUnetConfig, EditConfig):
        check(resolve_config(kind, {"data": str(data), "preset": "tiny"}), runs)


def test_missing_data_is_named(runs):
    with pytest.raises(RicError, match="nowhere"):
        check(resolve_config(FitClipConfig, {"data": "./nowhere", "preset": "tiny"}), runs)


@pytest.mark.parametrize(
    ("kind", "model", "asks"),
    [
        (FitClipConfig, CLIP, "ric fit-clip"),
        (FitBlipConfig, "Salesforce/blip-itm-base-coco", "ric fit-blip"),
        (TrainUnetConfig, "timbrooks/instruct-pix2pix", "ric train-unet"),
        (EditConfig, "timbrooks/instruct-pix2pix", "ric edit"),
        (DescribeConfig, "deepseek-ai/deepseek-vl2-tiny", "ric describe"),
    ],
)
def test_a_missing_model_is_named_with_who_needs_it_and_how_to_get_it(
    data, runs, kind, model, asks
):
    with pytest.raises(RicError) as raised:
        check(resolve_config(kind, {"data": str(data)}), runs)
    assert raised.value.message.startswith(f"{model} (")
    assert f"which {asks} needs, is not on this machine" in raised.value.message
    assert f"ric weights get {model}" in raised.value.hint
    assert "--preset tiny needs no download" in raised.value.hint


def test_the_tiny_preset_is_not_named_to_those_who_use_it(data, runs):
    given = {"data": str(data), "preset": "tiny", "unet": "timbrooks/instruct-pix2pix"}
    config = resolve_config(EditConfig, given)
    with pytest.raises(RicError, match="is not on this machine") as raised:
        check(config, runs)
    assert "ric weights get timbrooks/instruct-pix2pix" in raised.value.hint
    assert "--preset" not in raised.value.hint
    (found,) = find_problems(config, runs)
    assert "--preset" not in found.hint


@pytest.mark.parametrize("name", ["deepseek-ai/deepseek-vl2-small", "deepseek-ai/deepseek-vl2"])
def test_a_vlm_that_this_version_does_not_run_is_named_before_anything_is_fetched(
    data, runs, monkeypatch, name
):
    def fetch(*args: object, **flags: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(ric.weights.resolve, "get_weights", fetch)
    config = resolve_config(DescribeConfig, {"data": str(data), "model": name})
    (problem,) = find_problems(config, runs)
    assert problem.message.startswith(f"{name} is another size of DeepSeek-VL2; of its sizes only")
    assert problem.hint == "Try --model deepseek-ai/deepseek-vl2-tiny"
    with pytest.raises(RicError, match="only DeepSeek-VL2-Tiny is run"):
        check(config, runs)
    # the data's own texts need no model, and the paper's model is run
    monkeypatch.setattr(ric.preflight.checks, "require_connection", lambda *args, **flags: None)
    for flags in ({"describer": "dataset"}, {"model": "deepseek-ai/deepseek-vl2-tiny"}):
        file = {"data": str(data), "model": name}
        known = resolve_config(DescribeConfig, flags, from_file=file)
        assert find_problems(known, runs) == []


def test_a_folder_of_a_larger_vl2_is_named_by_its_config(data, runs, tmp_path):
    config = {"model_type": "deepseek_vl_v2", "language_config": {"topk_method": "greedy"}}
    (tmp_path / "config.json").write_text(json.dumps(config))  # use_mla is the default
    flags = {"data": str(data), "model": str(tmp_path)}
    problem = find_problems(resolve_config(DescribeConfig, flags), runs)[0]
    assert "another size of DeepSeek-VL2, with latent attention" in problem.message


def test_a_vlm_that_transformers_does_not_run_is_named_by_its_config(
    data, runs, monkeypatch, tmp_path
):
    file = tmp_path / "config.json"
    file.write_text('{"model_type": "florence9", "auto_map": {"AutoModel": "code.Florence"}}')
    flags = {"data": str(data), "model": str(tmp_path)}
    problem = find_problems(resolve_config(DescribeConfig, flags), runs)[0]
    assert "is a 'florence9', which transformers" in problem.message
    assert "deepseek-vl2-tiny" in problem.hint
    # of one on the hub the config alone is fetched
    asked: list[object] = []
    monkeypatch.setattr(
        ric.preflight.describers, "fetch_config", lambda weight: asked.append(weight.id) or file
    )
    monkeypatch.setattr(ric.preflight.checks, "require_connection", lambda *args, **flags: None)
    monkeypatch.setattr(ric.weights.resolve, "get_weights", None)
    config = resolve_config(DescribeConfig, flags | {"model": "org/florence9"})
    (problem,) = find_problems(config, runs)
    assert problem.message.startswith("org/florence9 is a 'florence9', which transformers")
    with pytest.raises(RicError, match="org/florence9 is a 'florence9'"):
        check(config, runs)
    assert asked == ["org/florence9"] * 2
    file.write_text('{"model_type": "qwen2_vl"}')
    assert find_problems(config, runs) == []


def test_a_run_serves_as_a_model_when_it_has_the_artifact(data, runs):
    with open_run("train-unet", {}, runs_dir=runs) as run:
        pass
    config = resolve_config(EditConfig, {"data": str(data), "unet": "@train-unet"})
    with pytest.raises(RicError, match="has no pipeline"):
        check(config, runs)
    pipeline_configs(run.path / "pipeline", "StableDiffusionInstructPix2PixPipeline", {}, {})
    check(config, runs)


def test_a_photo_needs_an_instruction_and_that_is_said_at_once(data, runs):
    flags = {"data": str(data / "0.png"), "preset": "tiny"}
    with pytest.raises(RicError, match=r"0\.png needs an instruction\."):
        check(resolve_config(EditConfig, flags), runs)
    check(resolve_config(EditConfig, flags | {"instruction": "make it night"}), runs)


def test_descriptions_that_are_no_run_are_named(data, runs):
    flags = {"data": str(data), "preset": "tiny", "descriptions": "elsewhere"}
    with pytest.raises(RicError, match=r"No run at 'elsewhere'\."):
        check(resolve_config(FitBlipConfig, flags), runs)


@pytest.mark.parametrize(
    ("judge", "loss", "command"),
    [("region_clip", "region", "fit-clip"), ("scene_blip", "scene", "fit-blip")],
)
def test_a_loss_without_its_judge_says_both_ways_out(data, runs, judge, loss, command):
    config = resolve_config(TrainUnetConfig, {"data": str(data), "preset": "tiny", judge: None})
    flag = judge.replace("_", "-")
    with pytest.raises(RicError) as raised:
        check(config, runs)
    assert raised.value.message == f"The {loss} loss needs a fitted judge: --{flag} RUN."
    off = {"region": "--no-region-loss", "scene": "--no-global-loss"}[loss]
    assert raised.value.hint == (
        f"Fit one with ric {command} DATA, or train without that loss: {off}"
    )


def test_pictures_to_score_that_are_not_there_are_named_at_once(data, runs, tmp_path):
    flags = {"data": str(data), "preset": "tiny"}
    with pytest.raises(RicError, match="No run and no folder of images at 'nothing'"):
        check(resolve_config(EvalConfig, flags | {"edits": ("Mine=nothing",)}), runs)
    with pytest.raises(RicError, match=r"No finished run of `ric edit`"):
        check(resolve_config(EvalConfig, flags | {"edits": ("@edit",)}), runs)
    check(resolve_config(EvalConfig, flags | {"edits": (f"Mine={data}",)}), runs)


def test_descriptions_of_a_run_that_made_none_are_named(data, runs):
    with open_run("fit-clip", {}, runs_dir=runs):
        pass
    flags = {"data": str(data), "preset": "tiny", "descriptions": "1"}
    with pytest.raises(RicError, match=r"has no descriptions\.jsonl"):
        check(resolve_config(FitBlipConfig, flags), runs)


def test_scoring_goes_on_without_a_network_and_its_dry_run_names_it(data, runs):
    flags = {"data": str(data), "edits": (f"A={data}",)}
    config = resolve_config(EvalConfig, flags)
    check(config, runs)
    found = [problem.message for problem in find_problems(config, runs)]
    assert [message.split(" ")[0] for message in found] == [
        "openai/clip-vit-base-patch32", "facebook/dino-vits16", "inception-2015-12-05",
        "lpips-alex", "lpips-squeeze",
    ]  # fmt: skip
    assert all("is not on this machine, and HF_HUB_OFFLINE is set" in one for one in found)
    config = resolve_config(EvalConfig, flags | {"metrics": "l1,dino"})
    (problem,) = find_problems(config, runs)
    assert problem.message.startswith("facebook/dino-vits16")
    assert list(plan(config, runs)["models"]) == ["facebook/dino-vits16"]
    config = resolve_config(EvalConfig, flags | {"metrics": "l1,nothing"})
    (problem,) = find_problems(config, runs)
    assert problem.message == "There is no metric 'nothing'."
    assert plan(config, runs)["models"] == {"none": "no model is loaded"}
    scenes = resolve_config(EvalConfig, flags | {"data": "scenes:9", "metrics": "edit_success"})
    assert plan(scenes, runs)["models"] == {"tiny": "of the embedded family"}


# --- find_problems ---------------------------------------------------------------------------


def test_all_problems_are_found_and_not_the_first_alone(runs):
    flags = {"data": "./nowhere", "region_clip": None, "scene_blip": None, "descriptions": "x"}
    found = find_problems(resolve_config(TrainUnetConfig, flags), runs)
    assert [error.message.split(" ")[0] for error in found] == [
        "No", "timbrooks/instruct-pix2pix", "No", "The", "The",
    ]  # fmt: skip
    assert found[0].message.startswith("No data at './nowhere'")
    assert "is not on this machine, and HF_HUB_OFFLINE is set" in found[1].message
    assert "ric weights get timbrooks/instruct-pix2pix" in found[1].hint


def test_looking_for_problems_fetches_nothing(data, runs, monkeypatch):
    def fetch(*args: object, **flags: object) -> None:
        raise AssertionError("fetched")

    monkeypatch.setattr(ric.weights.resolve, "get_weights", fetch)
    # the network is there
    monkeypatch.setattr(ric.preflight.checks, "require_connection", lambda *args, **flags: None)
    for name in (CLIP, "someone/other-clip"):
        config = resolve_config(FitClipConfig, {"data": str(data), "clip": name})
        assert find_problems(config, runs) == []
        with pytest.raises(AssertionError, match="fetched"):
            check(config, runs)


def test_a_model_that_no_network_could_bring_is_a_problem(data, runs, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, words in {
        str(tmp_path / "empty"): "is incomplete: it lacks config.json",
        "model.ckpt": "a pickle would not be loaded",
        "./nowhere": "not a hub id either",
    }.items():
        (problem,) = find_problems(
            resolve_config(FitClipConfig, {"data": str(data), "clip": name}), runs
        )
        assert words in problem.message


@pytest.mark.parametrize(
    ("index", "unet", "text", "words"),
    [
        (None, {}, {}, "it has no model_index.json"),
        ("FluxPipeline", None, {}, "it is a FluxPipeline, without a UNet2DConditionModel"),
        (
            "StableDiffusionXLPipeline",
            {"cross_attention_dim": 2048, "addition_embed_type": "text_time"},
            {},
            "it is a StableDiffusionXLPipeline, whose UNet reads more than the",
        ),
        (
            "StableDiffusionPipeline",
            {},
            {"hidden_size": 512},
            "does not read the tokens of one CLIP",
        ),
        ("StableDiffusionInpaintPipeline", {"in_channels": 9}, {}, "reads 9 channels"),
    ],
)
def test_a_base_of_another_kind_is_a_problem_before_it_runs(
    data, runs, tmp_path, index, unet, text, words
):
    base = pipeline_configs(tmp_path / "base", index, unet, text)
    flags = {"data": str(data), "preset": "tiny"}
    for config in (
        resolve_config(TrainUnetConfig, flags | {"base": str(base)}),
        resolve_config(EditConfig, flags | {"unet": str(base)}),
    ):
        problems = [p.message for p in find_problems(config, runs) if "type pipeline" in p.message]
        assert len(problems) == 1
        assert words in problems[0]
        with pytest.raises(RicError):
            check(config, runs)


def test_a_unet_without_a_source_is_trained_but_edits_nothing_and_takes_no_lora(
    data, runs, tmp_path
):
    base = pipeline_configs(tmp_path / "base", "StableDiffusionPipeline", {"in_channels": 4}, {})
    flags = {"data": str(data), "preset": "tiny"}
    refuse_other_pipelines(resolve_config(TrainUnetConfig, flags | {"base": str(base)}), runs)
    with pytest.raises(RicError, match=r"reads 4 channels, not 8 \(latents and source\)"):
        refuse_other_pipelines(resolve_config(EditConfig, flags | {"unet": str(base)}), runs)
    lora = flags | {"base": str(base), "lora_rank": 4}
    with pytest.raises(RicError, match="reads 4 channels"):
        refuse_other_pipelines(resolve_config(TrainUnetConfig, lora), runs)


def pipeline_configs(folder: Path, index: str | None, unet: dict | None, text: dict) -> Path:
    """Write the configs of a pipeline like Stable Diffusion 1.5's editor, with some changed."""
    of_unet = {"_class_name": "UNet2DConditionModel", "in_channels": 8, "out_channels": 4}
    parts = {
        "unet": unet if unet is None else {**of_unet, "cross_attention_dim": 768, **unet},
        "text_encoder": {"hidden_size": 768, **text},
    }
    for name, config in parts.items():
        (folder / name).mkdir(parents=True)
        if config is not None:
            (folder / name / "config.json").write_text(json.dumps(config))
    if index:
        (folder / "model_index.json").write_text(json.dumps({"_class_name": index}))
    return folder


# --- plan ------------------------------------------------------------------------------------


def test_a_plan_counts_samples_and_steps(data, runs):
    flags = {"data": str(data), "preset": "tiny", "batch_size": 4}
    told = plan(resolve_config(FitClipConfig, flags), runs)
    # 85 % of 20 rows are for training: 17, in 5 batches, for 4 + 2 epochs
    assert told["data"] == {"samples": "about 17 (85 % of 20 rows)", "split": "train"}
    assert told["cost"]["steps"] == 6 * 5
    told = plan(resolve_config(FitBlipConfig, flags | {"limit": 8, "split": "all"}), runs)
    assert told["data"]["samples"] == 8
    assert told["cost"]["steps"] == 4 * 2
    told = plan(resolve_config(EditConfig, flags | {"limit": 1}), runs)
    assert told["data"]["samples"] == "about 1 (10 % of 20 rows, at most 1)"
    told = plan(resolve_config(EditConfig, flags | {"data": "./nowhere"}), runs)
    assert told["data"]["samples"] == "unknown"


def test_a_plan_of_fit_clip_names_its_caches_and_runs_the_backbone_once_in_phase_1(
    data, runs, monkeypatch
):
    monkeypatch.setattr(ric.device, "matmul_rate", lambda *given: 1e12)
    flags = {"data": str(data), "split": "all", "device": "cpu", "dtype": "bf16"}
    told = plan(resolve_config(FitClipConfig, flags), runs)["cost"]
    # 20 samples: 20 x 3 x 512 x 512 bytes; 20 x 2 x 196 x 512 numbers of 2 bytes
    assert told["cache"] == "15.7 MB (8-bit squares), 8.03 MB (CLIP's tokens)"
    # tokens once 70, three fusions' 50 epochs of 33, 20 epochs of everything 243
    tflop = 20 * (70 + 3 * 50 * 33 + 20 * 243) / 1e3
    assert told["arithmetic"] == f"{tflop:,.0f} TFLOP"
    told = plan(resolve_config(FitClipConfig, flags | {"gated_fusion": False}), runs)["cost"]
    assert told["cache"] == "15.7 MB (8-bit squares), 20.5 kB (CLIP's tokens)"


def test_a_plan_of_train_unet_names_its_caches(data, runs):
    flags = {"data": str(data), "split": "all", "device": "cpu", "dtype": "bf16"}
    flags |= {"region_clip": "1", "scene_blip": "2"}
    told = plan(resolve_config(TrainUnetConfig, flags), runs)["cost"]
    # 20 samples: two pictures of 3 x 256 x 256 bytes; 3 x 4 x 32 x 32 numbers of 4 bytes and
    # 77 x 768 + 512 + 256 of 2
    assert told["cache"] == "7.86 MB (8-bit squares), 3.38 MB (encodings)"
    told = plan(resolve_config(TrainUnetConfig, flags | {"cache": False}), runs)["cost"]
    assert told["cache"] == "7.86 MB (8-bit squares)"
    # another family's sizes are not in the table
    told = plan(resolve_config(TrainUnetConfig, flags | {"preset": "tiny"}), runs)["cost"]
    assert "encodings" not in told["cache"]


def test_a_plans_time_is_its_arithmetic_over_the_machines_rate(data, runs, monkeypatch):
    monkeypatch.setattr(ric.device, "matmul_rate", lambda *given: 1e12)
    flags = {"data": str(data), "split": "all", "steps": 100, "device": "cpu"}
    flags |= {"region_clip": "1", "scene_blip": "2", "ema": False}
    told = plan(resolve_config(TrainUnetConfig, flags), runs)
    # 100 steps of 8 pictures: UNet 537, decoder 1247, CLIP 2 x 72, BLIP 234 GFLOP
    tflop = 100 * 8 * (537 + 1247 + 144 + 234) / 1e3
    assert told["cost"]["arithmetic"] == f"{tflop:,.0f} TFLOP"
    minutes = tflop / 60
    assert told["cost"]["time"] == (
        f"at least {minutes:.0f} min at this machine's matrix rate of 1.00 TFLOP/s, measured just"
        " now"
    )
    assert (
        told["models"]["timbrooks/instruct-pix2pix"] == "about 4.27 GB, missing (ric weights get)"
    )
    assert told["models"]["1"].startswith("missing: No run 1 in ")


def test_a_plans_time_is_a_range_where_the_machine_is_now_faster_and_now_slower(
    data, runs, monkeypatch
):
    rates = iter([2e12, 1e12, 4e12, 2e12, 2e12])
    monkeypatch.setattr(ric.device, "matmul_rate", lambda *given: next(rates))
    flags = {"data": str(data), "split": "all", "steps": 1000, "device": "cpu"}
    flags |= {"region_clip": "1", "scene_blip": "2"}
    told = plan(resolve_config(TrainUnetConfig, flags), runs)["cost"]
    minutes = 1000 * 8 * (537 + 1247 + 144 + 234) / 1e3 / 60
    assert told["time"] == (
        f"at least {minutes / 4:.0f} min to {minutes / 60:.1f} h at this machine's matrix rate of"
        " 1.00 to 4.00 TFLOP/s, measured just now"
    )


def test_no_time_is_told_for_its_true_reason(data, runs):
    def time_of(kind, **flags):
        return plan(resolve_config(kind, {"data": str(data), **flags}), runs)["cost"]["time"]

    unknown = "not estimated (the number of samples is not known)"
    assert time_of(FitClipConfig, data="./nowhere") == unknown
    other = "not estimated (not the paper's models)"
    assert time_of(FitClipConfig, preset="tiny") == other
    edits = (f"A={data}",)
    assert time_of(EvalConfig, edits=edits) == "not estimated for this command"


def test_a_plans_disk_has_the_checkpoints_and_the_model_that_is_made(data, runs, tmp_path):
    flags = {"data": str(data), "region_clip": "1", "scene_blip": "2"}
    told = plan(resolve_config(TrainUnetConfig, flags), runs)["cost"]
    # SD1.5's UNet four times over (with average and moments), two kept and one being written
    one = 4 * 4 * 859_532_484
    assert told["disk"] == (
        f"{(3 * one + 4.27e9) / 1e9:.1f} GB in the run: 3 checkpoints of {one / 1e9:.1f} GB at"
        " most, 4.27 GB (the pipeline); and the cache"
    )
    no_average = plan(resolve_config(TrainUnetConfig, flags | {"ema": False}), runs)["cost"]
    assert f"3 checkpoints of {3 * 4 * 859_532_484 / 1e9:.1f} GB" in no_average["disk"]
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "model.safetensors").write_bytes(bytes(1000))
    told = plan(resolve_config(FitClipConfig, {"data": str(data), "clip": str(clip)}), runs)["cost"]
    assert told["disk"] == (
        "10 kB in the run: 3 checkpoints of 3 kB at most, 1 kB (the fitted judge); and the cache"
    )


def test_a_plans_memory_is_the_trained_weights_and_their_copies(data, runs, tmp_path):
    model = tmp_path / "clip"
    model.mkdir()
    (model / "model.safetensors").write_bytes(bytes(1000))
    told = plan(resolve_config(FitClipConfig, {"data": str(data), "clip": str(model)}), runs)
    assert told["cost"]["memory"] == (
        "4 kB (weights, gradients, two moments, float32), and activations"
    )
    assert told["cost"]["time"] == "not estimated (not the paper's models)"


def test_a_plan_of_scoring_lists_its_networks_as_present_or_missing(data, runs, tmp_path):
    weights = tmp_path / "weights"
    dino = weights / "facebook--dino-vits16"
    dino.mkdir(parents=True)
    (dino / "config.json").write_text("{}")
    (dino / "model.safetensors").write_bytes(bytes(1000))
    flags = {"data": str(data), "edits": (f"A={data}",), "weights": str(weights)}
    told = plan(resolve_config(EvalConfig, flags), runs)
    assert told["models"] == {
        "openai/clip-vit-base-patch32": "609 MB, missing (ric weights get)",
        "facebook/dino-vits16": f"86.7 MB, in {dino}",
        "inception-2015-12-05": "about 95.6 MB, missing (ric weights get)",
        "lpips-alex": "244 MB, missing (ric weights get)",
        "lpips-squeeze": "4.96 MB, missing (ric weights get)",
    }
    # those that are missing by the table, dino by its file
    assert told["cost"]["memory"] == "at least 954 MB (the weights), and activations"
    told = plan(resolve_config(EvalConfig, flags | {"preset": "tiny", "weights": None}), runs)
    assert told["models"] == {"tiny": "of the embedded family"}
    told = plan(resolve_config(EvalConfig, flags | {"protocol": "pie-bench"}), runs)
    assert list(told["models"]) == [
        "openai/clip-vit-large-patch14", "facebook/dino-vitb8", "lpips-squeeze"
    ]  # fmt: skip
    told = plan(resolve_config(EvalConfig, flags | {"protocol": "magicbrush"}), runs)
    assert list(told["models"]) == ["openai/clip-vit-base-patch32", "facebook/dino-vits16"]


def test_a_plan_of_editing_needs_at_least_the_memory_of_all_the_pipelines_weights(
    data, runs, tmp_path
):
    for part in ("unet", "vae", "text_encoder"):
        (tmp_path / "pipeline" / part).mkdir(parents=True)
        (tmp_path / "pipeline" / part / "model.safetensors").write_bytes(bytes(1000))
    flags = {"data": str(data), "unet": str(tmp_path / "pipeline")}
    told = plan(resolve_config(EditConfig, flags), runs)
    assert told["cost"]["memory"] == "at least 3 kB (the weights), and activations"
    # ZONE loads a second pipeline, unless it is the same
    other = shutil.copytree(tmp_path / "pipeline", tmp_path / "other")
    flags |= {"editor": "zone", "segmenter": "felzenszwalb"}
    for second, size in ((other, 6), (tmp_path / "pipeline", 3)):
        flags["unet_magicbrush"] = str(second)
        told = plan(resolve_config(EditConfig, flags), runs)
        assert told["cost"]["memory"] == f"at least {size} kB (the weights), and activations"


@pytest.mark.parametrize("editor", ["ip2p", "zone", "ddpm-inversion", "cds"])
def test_a_plan_counts_the_evaluations_of_the_unet_that_an_editor_makes(editor, tiny_family):
    flags = {"data": "scenes:40@64", "preset": "tiny", "editor": editor, "steps": 3}
    flags |= {"skip": 1} if editor == "ddpm-inversion" else {}
    config = resolve_config(EditConfig, flags)
    cpu, rows = torch.device("cpu"), []
    folder = tiny_family / ("pipeline" if editor in ("ip2p", "zone") else "text_to_image")
    further = {"unet_magicbrush": folder} if editor == "zone" else {}
    loaded = load_editor(editor, folder, config, cpu, **further)
    loaded.pipeline.unet.register_forward_pre_hook(lambda unet, given: rows.append(len(given[0])))
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    loaded.edit([EditRequest("0", image, "make it red", "a ball", "a cube")])
    # a gradient, of CDS's one pass with the target's caption, counts as one more
    assert unet_evaluations(config) == sum(rows) + (config.steps if editor == "cds" else 0)


def test_the_embedded_familys_memory_is_twice_its_files_for_they_are_halves(
    data, runs, tmp_path, monkeypatch
):
    flags = {"data": str(data), "preset": "tiny"}
    for part in ("pipeline/unet", "pipeline/vae", "region_encoder/clip"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.setenv("RIC_TINY_FAMILY", str(tmp_path))
    told = plan(resolve_config(EditConfig, flags), runs)
    assert told["cost"]["memory"] == "at least 4 kB (the weights), and activations"
    told = plan(resolve_config(FitClipConfig, flags), runs)
    assert told["cost"]["memory"].startswith("8 kB (weights, gradients, two moments, float32)")
    told = plan(resolve_config(TrainUnetConfig, flags), runs)
    assert told["cost"]["memory"].startswith("10 kB (weights, gradients, two moments, EMA")
    assert "memory" not in plan(resolve_config(DescribeConfig, flags), runs)["cost"]


# --- no network ------------------------------------------------------------------------------


def unshare_works() -> bool:
    try:
        return subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


IN_SECONDS = """
import sys
sys.path.append(sys.argv.pop(1))
from quiet_clock import quiet_seconds
begun = quiet_seconds()
from ric_cli.main import main
try:
    main()
finally:
    print(quiet_seconds() - begun, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["fit-clip", "edits"], 1),
        (["edit", "edits/0.png", "make it night"], 1),
        (["describe", "BryanW/HumanEdit"], 1),
        (["train-unet", "edits"], 1),
        (["weights", "ls"], 0),
        (["weights", "get", CLIP], 1),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_without_a_network_every_command_answers_within_ten_seconds(data, tmp_path, words, code):
    if not unshare_works():
        pytest.skip("unshare -rn is not permitted here")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-c", IN_SECONDS, Path(__file__).parents[1], *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code
    assert float(done.stderr.splitlines()[-1]) < 10
    if code == 1:
        assert "is not on this machine, and huggingface.co cannot be reached" in done.stderr
        of_data = "Drawn scenes, such as scenes:300@64#7, need no download."
        of_models = "--preset tiny needs no download."
        assert (of_data if words[0] == "describe" else of_models) in done.stderr
