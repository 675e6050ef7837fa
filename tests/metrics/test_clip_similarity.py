"""CLIP-I and CLIP-T against the model called by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPImageProcessorPil, CLIPModel

from ric.errors import RicError
from ric.metrics.clip_similarity import PUBLISHED, ClipSimilarity

TEXTS = ["a red ball", "the dog lies on the grass near a small wooden house", "sky"]
LONG = "a red ball on a table " * 30


@pytest.fixture(scope="module")
def folder(clip_folder: Path) -> Path:
    return clip_folder


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipSimilarity:
    return ClipSimilarity(folder, encoder="tiny")


@torch.no_grad()
def image_features_by_hand(folder: Path, images) -> torch.Tensor:
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    return model.visual_projection(model.vision_model(pixels).pooler_output)


@torch.no_grad()
def text_feature_by_hand(folder: Path, text: str) -> torch.Tensor:
    tokens = AutoTokenizer.from_pretrained(folder)(
        text, truncation=True, max_length=77, return_tensors="pt"
    )
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    return model.text_projection(model.text_model(**tokens).pooler_output)[0]


def test_image_cosines_are_the_models_called_by_hand(clip, folder, draw):
    # sizes whose crop has one corner in every library
    images = [draw(0, 256, 256), draw(1, 299, 299), draw(2, 512, 512), draw(3, 1024, 1024)]
    by_hand = image_features_by_hand(folder, images)
    theirs = cosine_similarity(by_hand[:, None], by_hand[None], dim=-1)
    embeddings = clip.image_embeddings(images)
    torch.testing.assert_close(embeddings @ embeddings.T, theirs, atol=1e-5, rtol=0)
    assert theirs.min() < 0.999, "these weights tell nothing apart"
    # transformers' default resizes tensors, and is off by a grey level
    wrong = CLIPImageProcessor.from_pretrained(folder)(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        off = clip.model.get_image_features(wrong).pooler_output
    off_by = (cosine_similarity(off[:, None], off[None], dim=-1) - theirs).abs().max()
    assert off_by > 1e-5


def test_cosines_do_not_depend_on_the_batch(clip, draw):
    images = [draw(seed) for seed in range(64)]
    together = clip.image_embeddings(images)
    for batch in (1, 7):
        parts = [clip.image_embeddings(images[at : at + batch]) for at in range(0, 64, batch)]
        torch.testing.assert_close(torch.cat(parts), together, atol=1e-5, rtol=0)


def test_half_precision_moves_a_cosine_by_more_than_the_tolerance(folder, draw):
    clip, images = ClipSimilarity(folder), [draw(seed, 256, 256) for seed in range(8)]
    exact = clip.image_embeddings(images)
    clip.model.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        halved = clip.image_embeddings(images).float()
    moved = (halved @ halved.T - exact @ exact.T).abs().max()
    assert 1e-4 < moved < 0.05


def test_text_cosines_are_the_models_called_by_hand(clip, folder, draw):
    image = draw(0, 256, 256)
    by_hand = image_features_by_hand(folder, [image])
    for text, embedding in zip(TEXTS, clip.text_embeddings(TEXTS), strict=True):
        theirs = cosine_similarity(by_hand[0], text_feature_by_hand(folder, text), dim=0)
        assert clip.image_embeddings([image])[0] @ embedding == pytest.approx(
            theirs.item(), abs=1e-5
        )


def test_a_long_text_is_cut_before_its_end_token_and_told(folder):
    clip = ClipSimilarity(folder)
    short, cut = clip.text_embeddings(["a red ball", LONG])
    assert [clip.is_cut(text) for text in ("a red ball", LONG)] == [False, True]
    by_hand = text_feature_by_hand(folder, LONG)
    assert cosine_similarity(cut, by_hand, dim=0).item() == pytest.approx(1, abs=1e-5)
    assert cosine_similarity(short, cut, dim=0).item() < 0.999


def test_two_captions_of_120_words_score_differently_and_the_cut_ones_are_told(folder, draw):
    sentences = (
        "the red ball lies on the grass near a small wooden house ",
        "a tall white lamp stands behind the table in the large room ",
    )
    of_grass, of_room = (" ".join((sentence * 12).split()[:120]) for sentence in sentences)
    clip = ClipSimilarity(folder)
    picture = clip.image_embeddings([draw(0)])[0]
    texts = clip.text_embeddings([of_grass, "a red ball", of_room])
    assert [clip.is_cut(text) for text in (of_grass, "a red ball", of_room)] == [True, False, True]
    scores = (texts @ picture).tolist()
    assert abs(scores[0] - scores[2]) > 1e-3
    for caption, score in ((of_grass, scores[0]), (of_room, scores[2])):
        by_hand = cosine_similarity(picture, text_feature_by_hand(folder, caption), dim=0)
        assert score == pytest.approx(by_hand.item(), abs=1e-5)


def test_long_texts_that_begin_differently_stay_apart(folder):
    one, other = ClipSimilarity(folder).text_embeddings([LONG, "sky and water " + LONG])
    assert one @ other < 0.9999


def test_filling_a_short_row_changes_nothing(clip):
    together = clip.text_embeddings(TEXTS)
    alone = torch.cat([clip.text_embeddings([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_picture_is_at_cosine_one_with_itself(clip, draw):
    embeddings = clip.image_embeddings([draw(0), draw(0).copy()])
    assert embeddings[0] @ embeddings[1] == pytest.approx(1, abs=1e-6)


def test_an_encoder_that_is_not_the_published_one_marks_its_scores(folder):
    assert ClipSimilarity(folder, encoder="tiny").marker == "tiny"
    assert ClipSimilarity(folder).marker == folder.name
    assert ClipSimilarity(folder, encoder=PUBLISHED).marker == ""


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(RicError, match=r"is incomplete: it lacks config\.json"):
        ClipSimilarity(tmp_path)


def test_a_model_that_lacks_weights_is_refused_rather_than_left_random(folder, tmp_path):
    broken = tmp_path / "clip"
    shutil.copytree(folder, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors.pop("visual_projection.weight")
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RicError, match=r"lacks 1 of its weights, such as visual_projection"):
        ClipSimilarity(broken)
