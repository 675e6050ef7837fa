"""A server's model, over HTTP: what is sent, and what is done about each thing a server may do."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import answers, request_for
from chat_server import ChatServer, Reply, refuses, says, serving
from PIL import Image
from small_vl2 import picture

openai = pytest.importorskip("openai", reason="openai is not installed")

from ric.config import DescribeConfig  # noqa: E402
from ric.data.edit_sample import EditSample, Pictures  # noqa: E402
from ric.describers import openai_server  # noqa: E402
from ric.describers.openai_server import OpenAiServer  # noqa: E402
from ric.errors import RicError, SampleError  # noqa: E402
from ric.recipes.describe import describe  # noqa: E402
from ric.runs.rows import read_rows  # noqa: E402

KEY = "sk-a-secret-0123456789"
HTML = Reply(200, b"<!DOCTYPE html><h1>Welcome</h1>", {"content-type": "text/html"})
HALF = Reply(200, says("A ball.").body[:60])
NOTHING = Reply(body=None)
PARAGRAPH = "A red ball lies on grey asphalt."


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "PAUSE", 0.01)
    monkeypatch.setattr(openai_server, "POLL", 0.02)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def sample(name: str = "a") -> EditSample:
    pictures = Pictures(source=picture(9, 9), target=picture(80, 60))
    return EditSample(id=name, instruction="make it red", pictures=pictures)


def asks(server: ChatServer, **settings: Any) -> OpenAiServer:
    settings = {"describer": "openai", "model": "small", "base_url": server.url, **settings}
    return OpenAiServer(DescribeConfig(**settings))


def one(server: ChatServer, **settings: Any) -> Any:
    return answers(asks(server, **settings), [request_for(sample())])[0]


def test_a_server_gets_the_prompt_the_scaled_picture_and_the_key_of_the_environment():
    with serving(lambda n, body: says(PARAGRAPH)) as server:
        answer = one(server, sent_pixels=1200, max_new_tokens=99)
    assert answer == (PARAGRAPH, 7, True)
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert asked["headers"]["authorization"] == f"Bearer {KEY}"
    body = asked["body"]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("small", 99, 0)
    shown, said = body["messages"][0]["content"]
    assert said["text"] == request_for(sample()).prompt
    kind, _, data = shown["image_url"]["url"].partition(";base64,")
    assert kind == "data:image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
        assert sent.size == (40, 30)


def test_a_region_is_shown_twice_and_a_repeated_question_has_another_seed():
    with serving(lambda n, body: says(PARAGRAPH)) as server:
        region = request_for(sample(), "region", refused=("empty",), seed=3)
        answers(asks(server), [region, region.asked_again("list")])
    first, second = (asked["body"] for asked in server.asked)
    assert [part["type"] for part in first["messages"][0]["content"]].count("image_url") == 2
    assert first["temperature"] == second["temperature"] == 0.7
    assert {first["seed"], second["seed"]} == {region.answer_seed, second["seed"]}
    assert first["seed"] != second["seed"]


def test_no_more_requests_are_in_flight_than_asked_for():
    with serving(lambda n, body: says(PARAGRAPH)._replace(after=0.05)) as server:
        found = answers(
            asks(server, concurrency=3), [request_for(sample(str(number))) for number in range(9)]
        )
    assert len(found) == len(server.asked) == 9
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "first",
    [refuses(429), refuses(500), refuses(503), NOTHING, HALF, HTML, Reply(200, b"{}")],
    ids=["429", "500", "503", "nothing", "half a JSON", "HTML", "no message"],
)
def test_a_server_that_recovers_is_asked_again(first):
    with serving(lambda n, body: says(PARAGRAPH) if n else first) as server:
        assert one(server).text == PARAGRAPH
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("ever", "message", "hint"),
    [
        (HTML, "answers with HTML, not with chat completions", "often ends in /v1"),
        (HALF, "answers with what is no JSON", "often ends in /v1"),
        (refuses(401, f"Incorrect key {KEY}"), "Incorrect key …", "the variable OPENAI_API_KEY"),
        (refuses(404, "no model small"), "no model small", "--model as it calls its model"),
        (refuses(429, "slow down"), "slow down", "Lower --concurrency"),
        (NOTHING, "Cannot reach http://127", "finished texts are kept"),
    ],
    ids=["HTML", "half a JSON", "401", "404", "429", "nothing"],
)
def test_what_every_sample_would_meet_ends_the_command(ever, message, hint, monkeypatch):
    monkeypatch.setattr(openai_server, "RETRIES", 1)
    with serving(lambda n, body: ever) as server, pytest.raises(RicError) as caught:
        one(server)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert KEY not in caught.value.message


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (HTML, "it answered with HTML"),
        (HALF, "it answered with what is no JSON"),
        (refuses(400, "the picture is too large"), "the picture is too large"),
        (refuses(500, "out of memory"), "out of memory"),
        (says("late")._replace(after=1.0), "no answer within 0.4 s (--timeout)"),
    ],
    ids=["HTML", "half a JSON", "400", "500", "late"],
)
def test_what_one_sample_meets_fails_it_alone(bad, reason, monkeypatch):
    monkeypatch.setattr(openai_server, "RETRIES", 1)

    def reply(n: int, body: dict[str, Any]) -> Reply:
        return bad if "blue" in str(body["messages"][0]["content"][-1]) else says(PARAGRAPH)

    with serving(reply) as server:
        asked = [request_for(sample(name)) for name in ("a", "b", "c")]
        blue = EditSample(id="b", instruction="paint it blue", pictures=asked[1].sample.pictures)
        asked[1] = request_for(blue)
        first, second, third = answers(asks(server, concurrency=1, timeout=0.4), asked)
    assert first.text == third.text == PARAGRAPH
    assert isinstance(second, SampleError)
    assert (second.sample_id, second.stage) == ("b", "server")
    assert reason in second.reason


def test_a_server_that_is_away_for_longer_than_its_retries_is_waited_for(monkeypatch):
    monkeypatch.setattr(openai_server, "RETRIES", 0)
    away = {1: NOTHING, 2: NOTHING, 3: refuses(503), 4: refuses(502), 5: NOTHING}
    with serving(lambda n, body: away.get(n, says(PARAGRAPH))) as server:
        asked = [request_for(sample(name)) for name in "abc"]
        found = answers(asks(server, concurrency=1), asked)
    assert [answer.text for answer in found] == [PARAGRAPH] * 3
    assert len(server.asked) == 3 + len(away)


@pytest.mark.parametrize(
    ("ever", "reason"),
    [(refuses(500, "no memory"), "no memory"), (refuses(400, "no pictures"), "no pictures")],
    ids=["500", "400"],
)
def test_a_server_that_answers_none_of_many_samples_ends_the_command(ever, reason, monkeypatch):
    monkeypatch.setattr(openai_server, "RETRIES", 0)
    monkeypatch.setattr(openai_server, "FAILED_IN_A_ROW", 4)
    asked = [request_for(sample(str(number))) for number in range(9)]

    def mostly(n: int, body: dict[str, Any]) -> Reply:
        return says(PARAGRAPH) if n == 3 else ever

    with serving(mostly) as server, pytest.raises(RicError) as caught:
        answers(asks(server, concurrency=1), asked)
    assert "has answered none of the last 4 samples" in caught.value.message
    assert reason in caught.value.message
    assert len(server.asked) == 4 + 4  # an answer begins the count anew


def test_a_server_that_is_not_there_is_told_within_seconds():
    server = ChatServer(lambda n, body: says(PARAGRAPH))
    server.stop()
    began = time.monotonic()
    with pytest.raises(RicError, match="Cannot reach") as caught:
        one(server)
    assert server.url in caught.value.message
    assert time.monotonic() - began < 5


def test_a_redirect_is_not_followed():
    with serving(lambda n, body: says(PARAGRAPH)) as elsewhere:
        away = Reply(307, b"", {"location": f"{elsewhere.url}/chat/completions"})
        with serving(lambda n, body: away) as server, pytest.raises(RicError) as caught:
            one(server)
        assert "not followed" in caught.value.hint
        assert elsewhere.asked == []


# --- a run ---------------------------------------------------------------------------------------

Settings = Callable[..., DescribeConfig]


@pytest.fixture
def config(tiny: Callable[..., DescribeConfig]) -> Settings:
    def make(data: Path, url: str, **changes: Any) -> DescribeConfig:
        settings = {"describer": "openai", "model": "small", "base_url": url, **changes}
        return tiny(DescribeConfig, data, **settings)

    return make


def test_what_failed_in_a_finished_run_is_asked_for_again_when_that_is_wanted(
    make_edits, config, follow, monkeypatch, tmp_path
):
    monkeypatch.setattr(openai_server, "RETRIES", 0)
    data, run = make_edits(4), tmp_path / "run"
    with serving(lambda n, body: refuses(500, "busy") if n == 1 else says(PARAGRAPH)) as server:
        settings = config(data, server.url, concurrency=1)
        follow(describe, settings, run)
        assert [row["id"] for row in read_rows(run, "failures")] == ["01"]
        follow(describe, replace(settings, retry_failed=True), run)
        assert len(server.asked) == 5
        follow(describe, replace(settings, retry_failed=True), run)  # nothing is left
        assert len(server.asked) == 5
    assert sorted(row["id"] for row in read_rows(run, "descriptions")) == ["00", "01", "02", "03"]
    assert not (run / "failures.jsonl").exists()


def test_the_key_is_in_no_file_and_answers_that_cannot_be_used_are_asked_for_again(
    make_edits, config, follow, record_of, tmp_path
):
    def reply(n: int, body: dict[str, Any]) -> Reply:
        if "green" in body["messages"][0]["content"][-1]["text"]:
            return refuses(400, f"not with {KEY}")
        return says("- a ball\n- a field") if body["temperature"] == 0 else says(PARAGRAPH)

    with serving(reply) as server:
        settings = config(make_edits(2), server.url.replace("//", f"//user:{KEY}@"))
        run = follow(describe, settings, tmp_path / "run")
    (row,) = read_rows(run, "descriptions")
    assert (row["scene_text"], row["refused"]) == (PARAGRAPH, ["list"])
    assert (row["describer"], row["model"]) == ("openai", "small")
    assert record_of(run)["quality"]["refused"] == {"list": 1}
    written = b"".join(file.read_bytes() for file in run.rglob("*") if file.is_file())
    assert KEY.encode() not in written
