"""`ric eval --judge` as it is typed: dry runs, what is printed, and what is refused at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import Reply, says, serving
from PIL import Image

pytest.importorskip("openai", reason="openai is not installed")

Typed = Callable[..., tuple[object, ...]]


@pytest.fixture
def typed(data: Path, tmp_path: Path) -> Typed:
    """An eval of three red pictures by a judge."""
    (tmp_path / "out").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 9, 9)).save(tmp_path / f"out/{number}.png")

    def words(*more: object, metrics: str = "l1,vie_quality") -> tuple[object, ...]:
        tiny = ("--preset", "tiny", "--split", "all")
        return ("eval", "Mine=out", "--data", data, *tiny, "--metrics", metrics, *more)

    return words


def by(server: Any, name: str = "small") -> tuple[str, ...]:
    return ("--judge", "openai", "--base-url", server.url, "--judge-model", name)


def graded(n: int, body: dict[str, Any]) -> Reply:
    return says("Nice.") if n == 0 else says(f'{{"score": [{n % 5}, 8]}}')


def test_a_dry_run_names_the_judges_model_and_sends_nothing(ric, typed):
    with serving(graded) as server:
        said = ric(*typed(*by(server)), "--dry-run", "--json")
        assert said.code == 0
        assert json.loads(said.out)["settings"]["judge_model"] == "small"
        assert server.asked == []
    said = ric(*typed("--judge", "chat", "--judge-model", "org/judge"), "--dry-run", "--json")
    assert said.code == 1
    plan = json.loads(said.out)
    assert plan["models"] == {"org/judge": "missing (ric weights get org/judge)"} or (
        "missing" in plan["models"]["org/judge"]
    )
    (problem,) = plan["problems"]
    assert problem.startswith("org/judge")
    assert "which ric eval needs" in problem


def test_a_missing_judge_ends_the_command_before_anything_is_scored(ric, typed):
    said = ric(*typed("--judge", "chat", "--judge-model", "org/judge", "--run", "mine"))
    assert said.code == 1
    assert "org/judge" in said.err
    assert not Path("mine").exists()
    folder = Path("no judge")
    folder.mkdir()
    said = ric(*typed("--judge", "chat", "--judge-model", folder, "--run", "mine"))
    assert said.code == 1
    assert "no judge" in said.err


def test_the_judge_its_faults_and_the_agreement_are_printed_and_in_json(ric, typed):
    with serving(graded) as server:
        first = ric(*typed(*by(server), "--concurrency", 1, "--run", "first"))
        assert first.code == 0, first.err
        assert "VIE quality[small]" in first.out
        assert "1 malformed answers (no grades 1), 0 questions without a readable one" in first.err
        other = typed(*by(server, "large"), "--agree-with", "first", "--run", "second")
        second = ric(*other, "--json")
        assert second.code == 0, second.err
        judge = json.loads(second.out)["judge"]
        assert judge["model"] == "large"
        assert judge["agreement"]["metrics"]["vie_quality"]["n"] == 3
        again = ric(*other)
        assert "is already finished" in again.err
        assert "Agreement with small (first) on VIE quality (N = 3): Spearman" in again.err
        asked = len(server.asked)
    # three edits and three sources, which are the targets too; one answer was malformed
    assert asked == 7 + 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--judge", "chat"), "--judge chat needs a model"),
        (("--judge", "openai", "--judge-model", "m"), "needs the address of a server"),
        (("--judge-swap",), "--judge none does not use --judge-swap"),
        (("--agree-with", "first"), "vie_quality is given by a judge, and none is named"),
        (("--judge", "nobody.py:Nothing"), "there is no file nobody.py"),
    ],
)
def test_settings_that_do_not_fit_end_the_command_in_one_line(ric, typed, words, message):
    said = ric(*typed(*words, "--run", "mine"))
    assert said.code == 1
    assert message in said.err
    assert "Traceback" not in said.err
    assert not Path("mine").exists()


def test_prompts_that_cannot_be_used_are_among_a_dry_runs_problems(ric, typed):
    Path("prompts").mkdir()
    Path("prompts/vie_semantics.txt").write_text("Grade <instruction>.")
    words = ("--judge", "openai", "--judge-model", "m", "--base-url", "http://127.0.0.1:9/v1")
    asked = typed(*words, "--judge-prompts", "prompts", metrics="gedit")
    said = ric(*asked, "--dry-run", "--json")
    assert said.code == 1
    (problem,) = json.loads(said.out)["problems"]
    assert "has no place for the instruction" in problem
    assert "{edit_prompt}" in problem
