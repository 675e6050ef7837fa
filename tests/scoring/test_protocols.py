"""`ric eval --protocol`: every definition as its source's script has it, written out here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cosine_similarity
from torchvision.transforms import ToTensor
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from ric.config import EvalConfig, as_dict
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.protocols import PROTOCOLS
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring.scores import PIE_BENCH, Scores
from ric.settings import resolve_config

IDENTITY, TRUTH = "Identity (source)", "Ground truth"
CAPTIONS = ["a red ball on grass", "a green ball near a tree", "water and sky"]


@pytest.fixture(scope="module")
def data(make_edits: Callable[..., Path]) -> Path:
    captions = {n: {"target_text": text} for n, text in enumerate(CAPTIONS)}
    return make_edits(3, captions)


@pytest.fixture(scope="module")
def edited(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an editor made, at sizes of its own: the target turned about, with grain."""
    folder = tmp_path_factory.mktemp("edited")
    rng = np.random.default_rng(0)
    sizes = [(192, 160), (60, 90), (96, 80)]
    for sample, size in zip(load_samples(data), sizes, strict=True):
        turned = sample.load_target().transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize(size)
        pixels = np.asarray(turned).astype(int) + rng.integers(-40, 40, (*reversed(size), 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{sample.id}.png")
    return folder


@pytest.fixture
def score(data: Path, edited: Path, tmp_path: Path) -> Callable[..., dict[str, Scores]]:
    def call(protocol: str, **flags: object) -> dict[str, Scores]:
        given = {
            "data": str(data), "edits": [f"Mine={edited}"], "preset": "tiny", "split": "all",
            "device": "cpu", "protocol": protocol, **flags,
        }  # fmt: skip
        config = resolve_config(EvalConfig, given)
        folder = tmp_path / protocol
        with open_run("eval", as_dict(config), runs_dir=tmp_path, run=folder) as run:
            return {row.label: row for row in evaluate(config, run)}

    return call


# --- MagicBrush ----------------------------------------------------------------------------------


@torch.no_grad()
def cosines(folder: Path, ours: list, theirs: list) -> float:
    """The mean cosine of pictures with pictures or with texts, each at its own size."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def features(item: Image.Image | str) -> torch.Tensor:
        if isinstance(item, str):
            return model.get_text_features(**tokenizer(item, return_tensors="pt")).pooler_output
        return model.get_image_features(**processor(item, return_tensors="pt")).pooler_output

    pairs = zip(ours, theirs, strict=True)
    return float(np.mean([cosine_similarity(features(a), features(b)).item() for a, b in pairs]))


def test_magicbrush_is_its_scripts_formulas(score, data, edited, tiny_family):
    rows = score("magicbrush")
    mine, truth = rows["Mine"], rows[TRUTH]
    targets = [sample.load_target() for sample in load_samples(data)]
    outputs = [Image.open(file).convert("RGB") for file in sorted(edited.iterdir())]
    # Image.resize without a filter is bicubic
    fitted = [a.resize(b.size) for a, b in zip(outputs, targets, strict=True)]
    for key, criterion in (("l1", nn.L1Loss()), ("l2", nn.MSELoss())):
        by_hand = [
            criterion(ToTensor()(a), ToTensor()(b)).item()
            for a, b in zip(fitted, targets, strict=True)
        ]
        assert mine[key].value == pytest.approx(np.mean(by_hand), rel=1e-5)
    clip = tiny_family / "clip"
    by_hand = cosines(clip, outputs, targets)
    assert mine["clip_i"].value == pytest.approx(by_hand, abs=1e-5)
    # at the reference's size, as all other scores are taken, it is another number
    assert cosines(clip, fitted, targets) != pytest.approx(by_hand, abs=1e-4)
    assert mine["clip_t"].value == pytest.approx(cosines(clip, outputs, CAPTIONS), abs=1e-5)
    assert truth["clip_t"].value == pytest.approx(cosines(clip, targets, CAPTIONS), abs=1e-5)
    assert truth["clip_t"].note == "The ground truth's is what the script calls the oracle."


def test_magicbrush_shows_its_five_and_nothing_else(score, tmp_path):
    rows = score("magicbrush")
    assert [score.key for score in rows["Mine"].scores] == ["clip_i", "dino", "clip_t", "l1", "l2"]
    told = json.loads((tmp_path / "magicbrush/scores.json").read_text())
    assert told["protocol"] == "magicbrush"
    per_sample = (tmp_path / "magicbrush/per_sample.jsonl").read_text().splitlines()
    means = np.mean([json.loads(line)["l1"] for line in per_sample[:3]])
    assert rows["Mine"]["l1"].value == pytest.approx(means)


# --- PIE-Bench -----------------------------------------------------------------------------------


def test_pie_bench_shows_its_eight_in_every_table_and_compares_with_the_source(score, tmp_path):
    rows = score("pie-bench", clip="tiny")
    assert [score.key for score in rows["Mine"].scores] == list(PIE_BENCH)
    identity = rows[IDENTITY]
    assert identity["psnr_unedited"].value == 100
    assert identity["mse_unedited"].value == 0
    assert 0 < rows["Mine"]["psnr_unedited"].value < 40
    # the data has no source_text, and the tiny family no DINO
    assert "the mask or the text" in rows["Mine"]["clip_source"].unavailable
    assert "no transformer" in rows["Mine"]["structure_distance"].unavailable
    folder = tmp_path / "pie-bench"
    assert "PSNR unedited, dB" in (folder / "table.md").read_text()
    assert "PSNR unedited, dB $\\uparrow$" in (folder / "table.tex").read_text()


def test_pie_bench_scores_the_last_of_a_strip_and_a_mask_of_the_whole_picture(score, tmp_path):
    folders = {name: tmp_path / name for name in ("source", "mask", "out")}
    for folder in folders.values():
        folder.mkdir()
    rng = np.random.default_rng(0)
    for name, white in (("a", slice(100, 200)), ("b", slice(None))):
        pixels = rng.integers(0, 256, (512, 512, 3), dtype=np.uint8)
        noise = rng.integers(0, 256, (512, 3 * 512, 3), dtype=np.uint8)
        mask = np.zeros((512, 512), np.uint8)
        mask[white, white] = 255
        Image.fromarray(pixels).save(folders["source"] / f"{name}.png")
        Image.fromarray(np.hstack([noise, pixels])).save(folders["out"] / f"{name}.png")
        Image.fromarray(mask).save(folders["mask"] / f"{name}.png")
    texts = tmp_path / "texts.csv"
    texts.write_text("id,target_text\na,a red ball\nb,a blue ball\n")
    given = {"source": str(folders["source"]), "mask": str(folders["mask"]), "texts": str(texts)}
    rows = score("pie-bench", **given, data="", edits=[f"Mine={folders['out']}"])
    mine = rows["Mine"]
    assert (mine["psnr_unedited"].value, mine["psnr_unedited"].n) == (
        100,
        1,
    )  # of b nothing is left
    assert mine["clip_edited"].value == pytest.approx(rows[IDENTITY]["clip_edited"].value)
    assert mine["clip_edited_part"].n == 2
    assert not (tmp_path / "pie-bench" / "failures.jsonl").exists()


# --- the paper -----------------------------------------------------------------------------------


def test_the_papers_reference_is_the_source_its_fid_the_ground_truths_and_its_clip_t_nobodys(
    score, tmp_path
):
    rows, plain = score("paper"), score("none")
    for key in ("clip_i", "dino"):
        assert rows["Mine"][key].value == pytest.approx(plain["Mine"][f"{key}_source"].value)
    assert rows[IDENTITY]["lpips"].value == pytest.approx(0, abs=1e-6)
    assert rows["Mine"]["fid"].value == plain["Mine"]["fid"].value
    assert rows[TRUTH]["fid"].value == pytest.approx(0, abs=1e-4)
    line = "The paper's CLIP-T cannot be reproduced from its text."
    assert line in rows["Mine"]["clip_t"].note
    assert line in (tmp_path / "paper/table.md").read_text()
    assert plain["Mine"]["clip_t"].note is None


# --- what a protocol fixes -----------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_fixes_every_definition(protocol):
    config = resolve_config(EvalConfig, {"data": "d", "protocol": protocol})
    assert {key: getattr(config, key) for key in PROTOCOLS[protocol]} == PROTOCOLS[protocol]
    # said again it is no contradiction, as in a run.json that is read as a config
    again = resolve_config(EvalConfig, {"data": "d"}, from_file=as_dict(config))
    assert again == config


def test_asking_for_something_else_is_an_error():
    flags = {"data": "d", "protocol": "magicbrush", "reference": "source"}
    with pytest.raises(RicError) as caught:
        resolve_config(EvalConfig, flags)
    assert caught.value.message == (
        "--protocol magicbrush fixes --reference as 'target', not 'source'."
    )
    assert caught.value.hint == "Omit --reference or --protocol."
    with pytest.raises(RicError, match="protocol is 'ours'") as caught:
        resolve_config(EvalConfig, {"protocol": "ours"})
    assert "none, magicbrush, pie-bench, paper" in caught.value.hint


def test_a_flag_that_a_protocol_has_no_use_for_is_an_error():
    for flags in ({"fid_set": "photos"}, {"fid": "clean"}, {"lpips_net": "vgg"}):
        (flag,) = flags
        with pytest.raises(RicError) as caught:
            resolve_config(EvalConfig, {"data": "d", "protocol": "magicbrush"} | flags)
        named = "--" + flag.replace("_", "-")
        assert caught.value.message == f"--protocol magicbrush does not use {named}."


def test_the_tiny_preset_keeps_its_own_networks():
    flags = {"data": "d", "protocol": "magicbrush", "preset": "tiny"}
    config = resolve_config(EvalConfig, flags)
    assert (config.clip, config.dino, config.text) == ("tiny", "tiny", "target_text")
