"""Every number of the paper's implementation details equals its config default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ric.config import DescribeConfig, FitBlipConfig, FitClipConfig, TrainUnetConfig
from ric.describers.prompt import SCENE_PROMPT

PAPER = Path(__file__).parents[2] / "shared" / "paper" / "region-in-context.md"

# (config, field, value, the paper's words, "Implementation details" unless said otherwise)
STATED = [
    (FitClipConfig, "image_size", 512, "resized to a resolution of 512"),
    (FitClipConfig, "clip", "openai/clip-vit-base-patch16", "pretrained CLIP ViT-B/16 model"),
    (FitClipConfig, "fusion_epochs", 50, "only the fusion module is optimized for 50 epochs"),
    (FitClipConfig, "fusion_lr", 1e-4, "AdamW optimizer with a learning rate of 1"),
    (FitClipConfig, "batch_size", 64, "and a batch size of 64"),
    (FitClipConfig, "joint_epochs", 20, "fine-tuned jointly for 20 additional epochs"),
    (FitClipConfig, "joint_lr", 1e-5, "20 additional epochs with a learning rate of 1"),
    (FitBlipConfig, "blip", "Salesforce/blip-itm-base-coco", "BLIP (blip-itm-base-coco)"),
    (FitBlipConfig, "batch_size", 32, "fine-tuned with a batch size of 32"),
    (FitBlipConfig, "epochs", 20, "train for 20 epochs"),
    (FitBlipConfig, "lr", 1e-5, "20 epochs using the AdamW optimizer with a learning rate of 1"),
    (FitBlipConfig, "max_text_tokens", 512, "longer and more descriptive text inputs (512 tokens)"),
    (TrainUnetConfig, "lr", 1e-4, "optimized using a learning rate of 1"),
    (TrainUnetConfig, "steps", 9000, "over 9000 steps"),
    (TrainUnetConfig, "image_size", 256, "We use a resolution of 256"),
    (TrainUnetConfig, "batch_size", 8, "a batch size of 8"),
    (TrainUnetConfig, "region_weight", 1.0, "a combination of region-aware loss"),
    (TrainUnetConfig, "global_weight", 1.0, "full description alignment loss"),
    (TrainUnetConfig, "noise_weight", 1.0, "and denoising loss"),
    (DescribeConfig, "model", "deepseek-ai/deepseek-vl2-tiny", "DeepSeek-VL2-Tiny checkpoint"),
    (DescribeConfig, "max_new_tokens", 520, "(maximum 520 tokens)"),
]


@pytest.mark.parametrize(("kind", "field", "value", "words"), STATED)
def test_a_number_of_the_paper_is_the_default(kind, field, value, words):
    assert getattr(kind, field) == value
    assert getattr(kind(), field) == value


@pytest.mark.parametrize("words", [row[3] for row in STATED])
def test_the_paper_says_so_in_these_words(words):
    if not PAPER.is_file():
        pytest.skip("../shared is absent")
    text = re.sub(r"\[\[?[\d, ]+\]\([^)]*\)\]?", "", PAPER.read_text())
    # formulas and line ends are set apart in the text's copy
    plain = re.sub(r"\s+", " ", text)
    assert re.sub(r"\s+", " ", words) in plain


def test_the_prompt_asks_for_at_most_520_tokens():
    assert f"maximum {DescribeConfig.max_new_tokens} tokens" in SCENE_PROMPT
