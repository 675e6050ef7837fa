"""Choosing a describer by its name, and the one that takes the data's own texts."""

from __future__ import annotations

import pytest
import torch
from asking import scene_text
from PIL import Image

from ric.config import DescribeConfig
from ric.data.edit_sample import EditSample, Pictures
from ric.describers.chat_vlm import ChatVlm
from ric.describers.describer import load_describer
from ric.describers.from_dataset import FromDataset
from ric.errors import RicError, SampleError

CPU = torch.device("cpu")


def sample(**texts: str) -> EditSample:
    pictures = Pictures(source=Image.new("RGB", (8, 8)))
    return EditSample(id="0041", instruction="make it red", pictures=pictures, **texts)


def test_the_scene_text_goes_before_the_targets_caption():
    describer = load_describer("dataset", None, DescribeConfig(), CPU)
    assert isinstance(describer, FromDataset)
    assert (
        scene_text(describer, sample(scene_text="A room.", target_text="A caption.")) == "A room."
    )
    assert scene_text(describer, sample(target_text="A caption.")) == "A caption."


def test_a_sample_without_either_fails_with_what_to_do():
    with pytest.raises(SampleError, match="neither scene_text nor target_text") as caught:
        scene_text(FromDataset(), sample(source_text="before", region_text="a red ball"))
    assert caught.value.sample_id == "0041"
    assert "ric describe DATA --describer chat" in caught.value.hint


def test_chat_is_loaded_with_the_settings_of_the_config(tiny_family):
    config = DescribeConfig(dtype="fp32", max_new_tokens=7)
    describer = load_describer("chat", tiny_family / "captioner", config, CPU)
    assert isinstance(describer, ChatVlm)
    assert describer.max_new_tokens == 7


def test_an_unknown_describer_is_refused_with_those_there_are():
    with pytest.raises(RicError, match="no describer 'oracle'") as caught:
        load_describer("oracle", None, DescribeConfig(), CPU)
    assert caught.value.hint.startswith("Choose one of: dataset, chat, openai; or name your own")
