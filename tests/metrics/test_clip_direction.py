"""CLIP directional similarity against its formula, written out on the model called by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from ric.metrics.clip_direction import NO_CHANGE, clip_direction
from ric.metrics.clip_similarity import ClipSimilarity

CAPTIONS = ("a red ball", "a blue box on the grass")


@pytest.fixture(scope="module")
def clip(clip_folder) -> ClipSimilarity:
    return ClipSimilarity(clip_folder, encoder="tiny")


@torch.no_grad()
def by_hand(folder, source, edited) -> float:
    """InstructPix2Pix's score: cos(E(edited) - E(source), E(target text) - E(source text))."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)([source, edited], return_tensors="pt")
    vision = model.vision_model(pixels["pixel_values"]).pooler_output
    pictures = normalize(model.visual_projection(vision), dim=-1)
    tokens = [AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt") for text in CAPTIONS]
    words = [model.text_projection(model.text_model(**one).pooler_output)[0] for one in tokens]
    before, after = (normalize(word, dim=-1) for word in words)
    return cosine_similarity(pictures[1] - pictures[0], after - before, dim=0).item()


@pytest.mark.parametrize("size", [256, 512])
def test_it_is_the_cosine_of_the_two_differences_of_unit_vectors(clip, clip_folder, draw, size):
    source, edited = draw(0, size, size), draw(1, size, size)
    before, after = clip.text_embeddings(CAPTIONS)
    of_source, of_edited = clip.image_embeddings([source, edited])
    ours = clip_direction(of_edited, of_source, after, before)
    assert ours == pytest.approx(by_hand(clip_folder, source, edited), abs=1e-4)
    assert ours != pytest.approx(by_hand(clip_folder, source, draw(2, size, size)), abs=1e-2)
    assert clip_direction(of_source, of_edited, after, before) == pytest.approx(-ours)
    # vectors of other lengths than 1, as the model returns them, give another number
    assert clip_direction(2 * of_edited, of_source, after, before) != pytest.approx(ours, abs=1e-2)


def test_the_change_of_the_captions_itself_is_1_and_its_opposite_minus_1(clip):
    before, after = clip.text_embeddings(CAPTIONS)
    assert clip_direction(after, before, after, before) == pytest.approx(1)
    assert clip_direction(before, after, after, before) == pytest.approx(-1)


def test_an_unchanged_picture_has_0_also_where_batches_round_it_otherwise(clip, draw):
    before, after = clip.text_embeddings(CAPTIONS)
    images = [draw(seed) for seed in range(7)]
    (alone,), together = clip.image_embeddings(images[:1]), clip.image_embeddings(images)[0]
    assert clip_direction(alone, together, after, before) == 0
    rounded = alone * (1 + torch.finfo(torch.float32).eps)
    assert clip_direction(rounded, alone, after, before) == 0


def test_one_level_of_a_few_pixels_is_a_change(clip, draw):
    source = draw(0)
    changed = source.copy()
    corner = changed.crop((0, 0, 12, 12)).point(lambda level: level - 1 if level else 1)
    changed.paste(corner, (0, 0))
    one, other = clip.image_embeddings([source, changed])
    assert (one - other).norm() > NO_CHANGE
    before, after = clip.text_embeddings(CAPTIONS)
    assert clip_direction(other, one, after, before) != 0


def test_equal_captions_have_no_direction(clip, draw):
    same = clip.text_embeddings([CAPTIONS[0]])[0]
    one, other = clip.image_embeddings([draw(0), draw(1)])
    assert clip_direction(one, other, same, same.clone()) is None
