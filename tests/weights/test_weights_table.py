"""The table of weights: complete, consistent, and cheap to import."""

from __future__ import annotations

import re
import subprocess
import sys

from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)
from ric.models.table import commands_for
from ric.weights import WEIGHTS, find_weight, size_in_words

IP2P = "timbrooks/instruct-pix2pix"


def test_every_weight_a_paper_preset_names_is_in_the_table():
    named = (
        DescribeConfig.model,
        FitClipConfig.clip,
        FitBlipConfig.blip,
        TrainUnetConfig.base,
        EditConfig.unet,
        EvalConfig.clip,
        EvalConfig.dino,
    )
    assert [name for name in named if find_weight(name) is None] == []


def test_ids_are_unique_and_every_row_is_filled_in():
    assert len({weight.id for weight in WEIGHTS}) == len(WEIGHTS)
    for weight in WEIGHTS:
        assert weight.licence
        assert weight.conditions
        assert weight.purpose
        assert commands_for(weight.id)
        assert (weight.kind == "file") == bool(weight.file_name and weight.url)


def test_weights_of_the_hub_are_fixed_to_a_commit_but_for_those_whose_commit_is_not_known():
    floating = {
        weight.id
        for weight in WEIGHTS
        if weight.kind == "hub" and not re.fullmatch("[0-9a-f]{40}", weight.revision)
    }
    assert floating == {
        "Salesforce/blip-itm-base-coco",
        "deepseek-community/deepseek-vl-1.3b-chat",
        "facebook/dino-vitb8",
        "openai/clip-vit-base-patch32",
        "vinesmsuic/magicbrush-jul7",
    }


def test_a_files_revision_is_the_hash_in_its_name():
    for weight in WEIGHTS:
        if weight.kind == "file":
            assert f"-{weight.revision}." in weight.file_name
            assert weight.url.endswith(weight.file_name)


def test_sizes_are_written_with_three_digits():
    assert size_in_words(86_700_000) == "86.7 MB"
    assert size_in_words(6_750_000_000) == "6.75 GB"
    assert size_in_words(12) == "12 bytes"
    assert find_weight(IP2P).size == "about 4.27 GB"
    assert find_weight("tiny").size == "part of ric"


def test_importing_the_table_loads_neither_torch_nor_the_hub_nor_a_network_client():
    heavy = ("torch", "transformers", "huggingface_hub", "urllib.request", "asyncio", "socket")
    code = f"import sys, ric.weights; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
