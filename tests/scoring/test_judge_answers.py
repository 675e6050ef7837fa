"""What is read from a judge's answer, and what is not guessed."""

from __future__ import annotations

import itertools

import pytest

from ric.describers.quality import CUT, EMPTY, LOOP, REFUSAL, Answer
from ric.scoring.judge_answers import (
    NO_GRADES,
    OTHER_COUNT,
    OUT_OF_RANGE,
    SCORE_OF,
    SEVERAL,
    grades_of,
    scores_of,
)
from ric.scoring.judge_prompts import QUESTIONS

TWO, THREE = QUESTIONS["vie_semantics"], QUESTIONS["imgedit"]


@pytest.mark.parametrize(
    "text",
    [
        '{"reasoning": "The ball is red now.", "score": [7, 9]}',
        '{"score": [7, 9], "reasoning": "It says \\"wow\\" [sic], and a } stands there."}',
        '```json\n{"score" : [ 7,9 ],\n "reasoning": "broken "quotes" in it"}\n```',
        'The format is {"score": [success, restraint]}.\nSo: {"score": [7, 9]}',
        "Let me compare.\n**Score**: [7.0, 9.0]",
        '{"score": [7, 9]} and again {"scores": [7, 9.0]}',
        "[7, 9]",
        "  [7,\n9]  ",
        "Success: 7\nRestraint: 9",
        "Brief reasoning: it is red: fully.\n**Success:** 7\n- Restraint: **9**\n",
        "{'score': [7, 9]}",
    ],
)
def test_grades_are_found_wherever_a_judge_puts_them(text):
    assert grades_of(Answer(text), TWO) == (7, 9)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", EMPTY),
        (" \n", EMPTY),
        ("I'm sorry, but I cannot compare pictures.", REFUSAL),
        ("A red ball on a table.", NO_GRADES),
        ("I give it a 7 and a 9.", NO_GRADES),
        ("7/10", NO_GRADES),
        ('{"score": ["7", "9"]}', NO_GRADES),
        ('{"score": [true, false]}', NO_GRADES),
        ('{"score": [NaN, 9]}', NO_GRADES),
        ('{"score": [seven, nine]}', NO_GRADES),
        ('{"score": []}', NO_GRADES),
        ('{"score": 7}', NO_GRADES),
        ("a ball a ball a ball a ball a ball a ball", LOOP),
        ('{"score": [7]}', OTHER_COUNT),
        ('{"score": [7, 9, 9]}', OTHER_COUNT),
        ("[7]", OTHER_COUNT),
        ("Success: 7", OTHER_COUNT),
        ('{"score": [7, 11]}', OUT_OF_RANGE),
        ('{"score": [-1, 9]}', OUT_OF_RANGE),
        ('{"score": [7, 999999999]}', OUT_OF_RANGE),
        ('{"score": [7, 9]} or rather {"score": [7, 8]}', SEVERAL),
        ('{"score": [7, ' + "9" * 5000 + "]}", NO_GRADES),
        ("score: [" * 20_000, LOOP),
    ],
)
def test_any_other_answer_is_malformed_and_nothing_is_guessed(text, fault):
    assert grades_of(Answer(text), TWO) == fault


def test_an_answer_cut_off_counts_if_its_grades_are_there():
    assert grades_of(Answer('{"reasoning": "It is', ended=False), TWO) == CUT
    whole = '{"score": [7, 9], "reasoning": "It is'
    assert grades_of(Answer(whole, ended=False), TWO) == (7, 9)


def test_imgedit_is_read_from_lines_as_its_own_prompts_ask_for_them_with_its_own_range():
    told = "Brief reasoning: good.\nPrompt Compliance: {}\nVisual Seamlessness: 4\nPhysics: 3"
    assert grades_of(Answer(told.format(5)), THREE) == (5, 4, 3)
    assert grades_of(Answer(told.format(0)), THREE) == OUT_OF_RANGE
    assert grades_of(Answer(told.format("5 of 5")), THREE) == OTHER_COUNT
    assert SCORE_OF["imgedit"]((5, 4, 3)) == 4


def test_a_part_is_its_lowest_grade_and_the_whole_the_geometric_mean():
    assert SCORE_OF["vie_semantics"]((7, 9)) == 7
    assert SCORE_OF["vie_quality"]((4, 3)) == 3
    for semantics, quality in itertools.product((0.0, 2.0, 8.0), (0.0, 2.0, 10.0)):
        found = scores_of({"vie_semantics": semantics, "vie_quality": quality})
        assert found["vie_overall"] == pytest.approx((semantics * quality) ** 0.5)
    for alone in ({"vie_semantics": 8.0, "vie_quality": None}, {"vie_quality": 8.0}):
        assert scores_of(alone) == alone
