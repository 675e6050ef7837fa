"""The prompts of a judge: which are asked, one's own, and those that cannot be filled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ric.config import EvalConfig
from ric.errors import RicError
from ric.metrics.pairs import Pair
from ric.scoring.judge_prompts import QUESTIONS, judge_prompts_of, questions_of
from ric.scoring.judge_requests import Asked, about, request_for

PLACED = 'The {source} is before, the {edited} after "{edit_prompt}".'


def config(**settings: Any) -> EvalConfig:
    given = {"judge": "chat", "judge_model": "m", "metrics": "vie,imgedit", **settings}
    return EvalConfig(**given)


def folder(tmp_path: Path, **texts: str) -> str:
    for name, text in texts.items():
        (tmp_path / f"{name.replace('__', '-')}.txt").write_text(text)
    return str(tmp_path)


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("metrics", "asked"),
    [
        ("vie_overall", ("vie_semantics", "vie_quality")),
        ("gedit", ("vie_semantics", "vie_quality")),
        ("imgedit,vie_quality", ("vie_quality", "imgedit")),
        ("l1", ()),
        (None, ()),
    ],
)
def test_only_the_questions_that_the_metrics_need_are_asked(metrics, asked):
    assert questions_of(config(metrics=metrics)) == asked


def test_every_prompt_of_rics_can_be_filled_swapped_and_tells_its_grades_and_their_range():
    prompts = judge_prompts_of(config(judge_swap=True))
    assert prompts.keys() == QUESTIONS.keys()
    for name, question in QUESTIONS.items():
        words = {2: "two grades", 3: "three grades"}[question.grades]
        assert words in prompts[name]
        assert f"from {question.least}" in prompts[name]
        assert f"to {question.most}" in prompts[name]
        example = prompts[name].rpartition('"score": [')[2].partition("]")[0]
        assert len(example.split(",")) == question.grades


def test_prompts_of_a_folder_replace_rics_and_one_may_be_for_a_type_of_edit(tmp_path):
    own = folder(tmp_path, imgedit=PLACED, imgedit__style=f"Style. {PLACED}", vie_quality="Look.")
    prompts = judge_prompts_of(config(judge_prompts=own))
    assert prompts["vie_semantics"] == QUESTIONS["vie_semantics"].prompt
    assert prompts["vie_quality"] == "Look."
    pair = Pair("a", picture(0), picture(1), instruction="add {source}", editing_type="style")
    asked = Asked("Mine", "a", "imgedit", swapped=True)
    request = request_for(asked, about(pair, {}), prompts, 0)
    assert request.prompt == 'Style. The second is before, the first after "add {source}".'
    assert request.load_pictures() == [pair.edited, pair.source]
    other = Pair("a", picture(0), picture(1), instruction="x", editing_type="add")
    in_order = request_for(asked._replace(swapped=False), about(other, {}), prompts, 0)
    assert in_order.prompt == 'The first is before, the second after "x".'
    assert in_order.load_pictures() == [pair.source, pair.edited]
    assert prompts.keys() == {"vie_semantics", "vie_quality", "imgedit", "imgedit-style"}


def test_what_decides_an_answer_decides_its_digest(tmp_path):
    prompts = judge_prompts_of(config())
    pair = Pair("a", picture(0), picture(1), instruction="x")
    asked = Asked("Mine", "a", "vie_semantics", swapped=False)

    def digest(pair: Pair, asked: Asked = asked, prompts: dict[str, str] = prompts) -> str:
        return request_for(asked, about(pair, {}), prompts, 0).digest

    others = [
        digest(Pair("a", picture(2), picture(1), instruction="x")),
        digest(Pair("a", picture(0), picture(2), instruction="x")),
        digest(Pair("a", picture(1), picture(0), instruction="x")),
        digest(Pair("a", picture(0), picture(1), instruction="y")),
        digest(pair, asked._replace(swapped=True)),
        digest(pair, asked._replace(question="vie_quality")),
        digest(pair, prompts={**prompts, "vie_semantics": PLACED}),
    ]
    assert len({digest(pair), *others}) == 8
    assert digest(Pair("b", picture(0), picture(1), instruction="x")) == digest(pair)
    assert digest(pair, asked._replace(label="Yours")) == digest(pair)


def test_without_an_instruction_only_the_quality_is_asked_about():
    pair, prompts = Pair("a", picture(0), picture(1)), judge_prompts_of(config())
    found = {
        name: request_for(Asked("Mine", "a", name, swapped=False), about(pair, {}), prompts, 0)
        for name in QUESTIONS
    }
    assert found["vie_semantics"] is found["imgedit"] is None
    assert found["vie_quality"].load_pictures() == [pair.edited]


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ({"imgedit": "Grade <edit_prompt>."}, {}, "imgedit has no place for the instruction"),
        ({"imgedit__add": "Grade."}, {}, "imgedit-add has no place for the instruction"),
        ({"imgedit": "Grade {edit_prompt}."}, {"judge_swap": True}, "which picture is which"),
        ({"imgedit": "  \n"}, {}, "imgedit.txt, a prompt, is empty"),
        ({"sc": PLACED}, {}, "sc.txt' is the prompt of no question"),
        ({}, {}, "holds no prompt"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_in_one_line(tmp_path, texts, settings, message):
    with pytest.raises(RicError, match=message):
        judge_prompts_of(config(judge_prompts=folder(tmp_path, **texts), **settings))


def test_a_judge_that_sees_no_pair_has_nothing_to_swap():
    with pytest.raises(RicError, match="--judge-swap has nothing to swap"):
        judge_prompts_of(config(metrics="vie_quality", judge_swap=True))
    assert judge_prompts_of(config(metrics="vie_overall", judge_swap=True))


def test_prompts_that_are_not_there_are_refused_and_others_than_asked_for_are_not_looked_at(
    tmp_path,
):
    with pytest.raises(RicError, match="there is no folder"):
        judge_prompts_of(config(judge_prompts=str(tmp_path / "none")))
    own = folder(tmp_path, imgedit="no place", vie_quality="Look.")
    found = judge_prompts_of(config(judge_prompts=own, metrics="vie_quality"))
    assert found == {"vie_quality": "Look."}
