"""What makes an answer unusable, and what is only noted."""

from __future__ import annotations

import pytest
import torch

from ric.describers.quality import Answer, fault_of, note_on
from ric.describers.sampling import TEMPERATURE, TOP_P, SeededNoise

PARAGRAPH = (
    "A red ball lies in the foreground, left of the center, on smooth grey asphalt. Behind it"
    " stands a row of houses; the ball is small, the houses are large, and the sky is blue - a"
    " clear, pale blue. The ball has a soft shadow to its right."
)


@pytest.mark.parametrize(
    "text",
    [
        PARAGRAPH,
        PARAGRAPH.replace(". ", ".\n"),
        "A sorry-looking dog cannot reach a bone; I see 1.5 bones, 2) not 3.",
        "It is very, very, very large.",
        "I can see a dog. I can see a cat. I can see a cow.",
        "A row of red, blue, red, blue, red and green houses.",
    ],
)
def test_a_single_paragraph_has_no_fault(text):
    assert fault_of(Answer(text)) is None


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("empty", ""),
        ("empty", " \n\t"),
        ("list", "The picture shows:\n- a ball\n- a house"),
        ("list", "1. A ball\n2. A house"),
        ("list", "## Scene\nA ball lies there."),
        ("list", "A ball lies there.\n\u2022 red\n\u2022 small"),
        ("several paragraphs", "A ball lies there.\n\nA house stands behind it."),
        ("repeats itself", "A ball and a ball and a ball and a ball and a ball and a ball"),
        ("repeats itself", "The sky is is is is"),
        ("repeats itself", "The sky is blue. It is. The sky is blue. Yes. The sky is blue."),
        ("repeats itself", (PARAGRAPH + " ") * 4),
        ("refusal", "I'm sorry, but I can't help with that."),
        ("refusal", "Sorry, there is no picture."),
        ("refusal", "I am unable to describe it."),
        ("refusal", "As an AI language model, I cannot see pictures."),
        ("refusal", "Unfortunately, I cannot view images."),
        ("refusal", "I don\u2019t see an image in your message."),
    ],
)  # fmt: skip
def test_a_fault_is_named(fault, text):
    assert fault_of(Answer(text)) == fault


def test_an_answer_that_reached_the_most_tokens_is_cut_off():
    assert fault_of(Answer(PARAGRAPH[:-20], 520, ended=False)) == "cut off"
    # a loop goes on until there; it is the loop that is wrong
    assert fault_of(Answer("and so on " * 99, 520, ended=False)) == "repeats itself"


@pytest.mark.parametrize(
    ("instruction", "note"),
    [
        ("Make the ball red.", None),
        ("put two balls beside the tree", None),
        ("Add a dog.", "names nothing of the instruction"),
        ("Remove the dog on the left of the houses.", None),
        ("Please take the old red ball away", "names what is to be removed"),
        ("Erase the ball that stands behind the dog", "names what is to be removed"),
        ("make it brighter", "names nothing of the instruction"),
        ("", None),
    ],
)
def test_a_text_is_noted_that_does_not_fit_its_instruction(instruction, note):
    assert note_on(PARAGRAPH, "scene", instruction) == note
    assert note_on(PARAGRAPH, "source-caption", instruction) is None


def test_a_drawn_token_follows_the_softmax_of_the_likeliest_ones():
    logits = torch.tensor([[2.0, 1.5, 1.0, 0.5, -1.0]])
    p = (logits[0] / TEMPERATURE).softmax(0)
    kept = torch.tensor([sum(p[:n]) < TOP_P for n in range(5)])  # sorted already
    expected = torch.where(kept, p, 0) / p[kept].sum()
    draws = 4000
    noise = SeededNoise(range(draws))
    counts = noise(None, logits.expand(draws, 5)).argmax(-1).bincount(minlength=5) / draws
    assert (counts - expected).abs().max() < 4 * (0.25 / draws) ** 0.5
    assert counts[~kept].sum() == 0


def test_a_row_without_a_seed_is_as_it_was_and_each_step_is_drawn_anew():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    noise = SeededNoise([None, 7, 7])
    first, second = noise(None, logits), noise(None, logits)
    assert torch.equal(first[0], logits[0])
    assert not torch.equal(first[1], second[1])
    alone = SeededNoise([7])
    torch.testing.assert_close(alone(None, logits[2:]), first[2:])
    torch.testing.assert_close(alone(None, logits[2:]), second[2:])
