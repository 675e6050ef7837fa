"""A server that describes, dropped in the middle of a run: each sample still gets one text."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, Reply, refuses, says, serving
from small_chat import write_chat_model
from transformers.utils.import_utils import is_serve_available

openai = pytest.importorskip("openai", reason="openai is not installed")

from ric.config import DescribeConfig  # noqa: E402
from ric.describers import openai_server  # noqa: E402
from ric.errors import RicError  # noqa: E402
from ric.recipes.describe import describe  # noqa: E402
from ric.runs.rows import read_rows  # noqa: E402

NOTHING = Reply(body=None)
HALF = Reply(200, says("A ball.").body[:60])
PARAGRAPH = "A red ball lies on grey asphalt."
Settings = Callable[..., DescribeConfig]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "PAUSE", 0.01)
    monkeypatch.setattr(openai_server, "POLL", 0.02)
    monkeypatch.setenv("OPENAI_API_KEY", "none")


@pytest.fixture
def config(tiny: Callable[..., DescribeConfig]) -> Settings:
    def make(data: Path, url: str, **changes: Any) -> DescribeConfig:
        settings = {"describer": "openai", "model": "small", "base_url": url, **changes}
        return tiny(DescribeConfig, data, **settings)

    return make


def test_a_server_killed_and_restarted_in_the_middle_describes_each_sample_once(
    make_edits, config, follow, tmp_path
):
    data = make_edits(20)
    first = ChatServer(lambda n, body: says(PARAGRAPH)._replace(after=0.02))
    servers = [first]

    def restart() -> None:
        while len(first.asked) < 7:
            time.sleep(0.01)
        first.stop()
        time.sleep(0.3)
        servers.append(ChatServer(lambda n, body: says(PARAGRAPH), first.port))

    killer = threading.Thread(target=restart)
    killer.start()
    run = follow(describe, config(data, first.url, concurrency=3), tmp_path / "run")
    killer.join()
    servers[-1].stop()
    lines = (run / "descriptions.jsonl").read_text().splitlines()
    assert len(lines) == 20
    assert {row["id"] for row in read_rows(run, "descriptions")} == {f"{n:02d}" for n in range(20)}
    assert not (run / "failures.jsonl").exists()
    assert len(servers[1].asked) > 5


def test_a_server_that_is_gone_ends_the_run_which_goes_on_later(
    make_edits, config, follow, monkeypatch, tmp_path
):
    monkeypatch.setattr(openai_server, "RETRIES", 0)
    monkeypatch.setattr(openai_server, "RESTARTED_WITHIN", 0.0)
    data = make_edits(4)
    with serving(lambda n, body: says(PARAGRAPH) if n < 2 else NOTHING) as server:
        with pytest.raises(RicError, match="Cannot reach"):
            follow(describe, config(data, server.url, concurrency=1), tmp_path / "run")
        assert len(server.asked) == 2 + 1
    assert len(list(read_rows(tmp_path / "run", "descriptions"))) == 2
    # at another address, and with another load
    with serving(lambda n, body: says(PARAGRAPH)) as server:
        settings = config(data, server.url, concurrency=2, timeout=9.0)
        run = follow(describe, settings, tmp_path / "run")
        assert len(server.asked) == 2
    assert len((run / "descriptions.jsonl").read_text().splitlines()) == 4


def test_answers_dropped_cut_and_refused_at_random_leave_the_texts_of_an_undisturbed_run(
    make_edits, config, follow, tmp_path, tally
):
    data, draw = make_edits(10), random.Random(1)

    def text(body: dict[str, Any]) -> Reply:
        """Answer with what was asked, so that a text of another sample shows."""
        asked = body["messages"][0]["content"][-1]["text"]
        return says(f"A field, described because of this: {' '.join(asked.split()[-12:])}.")

    dropped: list[Reply] = []

    def reply(number: int, body: dict[str, Any]) -> Reply:
        odd = draw.choice((NOTHING, HALF, refuses(503, "busy"), None, None))
        if odd is None or len(dropped) == 8:
            return text(body)
        dropped.append(odd)
        return odd

    with serving(lambda number, body: text(body)) as server:
        whole = follow(describe, config(data, server.url, concurrency=2), tmp_path / "whole")
    with serving(reply) as server:
        run = follow(
            describe, config(data, server.url, concurrency=2, retry_failed=True), tmp_path / "run"
        )
        # what failed for good is asked for again, as long as there is something
        while (run / "failures.jsonl").exists():
            follow(describe, config(data, server.url, concurrency=2, retry_failed=True), run)
    assert len(dropped) == 8
    tally("dropped answers", len(dropped))
    ours, theirs = (
        sorted((row["id"], row["scene_text"]) for row in read_rows(made, "descriptions"))
        for made in (run, whole)
    )
    assert ours == theirs
    assert len((run / "descriptions.jsonl").read_text().splitlines()) == 10


# --- the server that transformers has ------------------------------------------------------------


@contextmanager
def transformers_serve(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `transformers serve` with a model, and wait until it answers."""
    words = ["serve", str(folder), "--port", str(port), "--device", "cpu"]
    command = [sys.executable, "-m", "transformers.cli.transformers", *words]
    process = subprocess.Popen(
        command,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with socket.socket() as door:
                if door.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.skipif(
    not is_serve_available(), reason="transformers serve is not installed (transformers[serving])"
)
def test_transformers_serve_killed_and_restarted_describes_each_of_50_pictures_once(
    config, follow, tmp_path
):
    model = write_chat_model(tmp_path / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = config(
        Path("scenes:50@64#5"),
        f"http://127.0.0.1:{port}/v1",
        model=str(model),
        max_new_tokens=4,
        quality_gates=False,
    )
    run, seen = tmp_path / "run", []

    def kill_and_restart(first: subprocess.Popen[bytes]) -> None:
        while len(seen) < 15:
            seen[:] = list(read_rows(run, "descriptions"))
            time.sleep(0.2)
        first.kill()
        with transformers_serve(model, port):
            ended.wait()

    ended = threading.Event()
    with transformers_serve(model, port) as first:
        killer = threading.Thread(target=kill_and_restart, args=(first,))
        killer.start()
        try:
            follow(describe, settings, run)
        finally:
            ended.set()
            killer.join()
    lines = (run / "descriptions.jsonl").read_text().splitlines()
    assert len(lines) == len(list(read_rows(run, "descriptions"))) == 50
    assert not (run / "failures.jsonl").exists()
    assert 15 <= len(seen) < 50
