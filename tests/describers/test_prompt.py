"""The prompt is the paper's Table 4, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ric.config import DescribeConfig
from ric.describers.prompt import SCENE_PROMPT, filled

PAPER = Path(__file__).parents[2].parent / "shared" / "paper" / "region-in-context.md"


def words(text: str) -> list[str]:
    """Take bullets away and give the words; `a\u2014b` is two."""
    # the paper's bullets stand without a space; a hyphen inside a word is no bullet
    text = re.sub("[\u2022\u2013*]", " ", text)
    text = re.sub(r"(?m)^\s*-\s", " ", text)
    return text.replace("\u2019", "'").replace("\u2014", " \u2014 ").split()


@pytest.mark.skipif(not PAPER.is_file(), reason="../shared is absent")
def test_the_prompt_is_table_4_word_for_word():
    line = next(
        line for line in PAPER.read_text().splitlines() if "meticulous visual analyst" in line
    )
    # "Prompt" is the table's heading, and the chat's own picture stands where "<image>" does
    table = words(line)
    assert table[:2] == ["Prompt", "Input:<image>"]
    assert words(SCENE_PROMPT) == table[2:]


def test_the_instruction_stands_in_its_place():
    prompt = filled(SCENE_PROMPT, "Remove the woman.")
    assert 'targeted in the editing instruction: "Remove the woman.". For example' in prompt
    assert "{edit_prompt}" not in prompt
    assert prompt.replace("Remove the woman.", "{edit_prompt}") == SCENE_PROMPT


@pytest.mark.parametrize("instruction", ["add {a} brace", "{", "{edit}", "50 %s", "{0} \\1"])
def test_braces_and_percents_in_an_instruction_stay(instruction):
    assert f'editing instruction: "{instruction}".' in filled(SCENE_PROMPT, instruction)


def test_the_prompt_says_the_longest_answer_that_is_asked_for():
    assert f"(maximum {DescribeConfig().max_new_tokens} tokens)" in SCENE_PROMPT
    assert DescribeConfig().max_new_tokens == 520
