"""`ric describe` as it is typed: what is shown, and what is refused before anything is loaded."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from ric_cli import console

TINY = ("--preset", "tiny")


def test_show_prints_pictures_as_paths_where_no_terminal_is_with_their_texts(ric, data):
    said = ric("describe", data, *TINY, "--show", "2", "--run", "run")
    assert said.code == 3  # the second has no text
    folder = Path(data)
    assert said.out.splitlines() == [
        f"{folder / '0.png'}",
        "  scene: scene 0",
        f"{folder / '2.png'}",
        "  scene: scene 2",
        "run/descriptions.jsonl",
    ]
    again = ric("describe", data, *TINY, "--show", "1", "--run", "run")
    assert again.out.splitlines()[:2] == [f"{folder / '0.png'}", "  scene: scene 0"]


def test_a_terminal_with_colours_shows_a_thumbnail_of_two_pixels_a_letter(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name, value in {"TERM": "xterm-256color", "COLORTERM": "truecolor"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    picture = Image.new("RGB", (80, 40), (250, 10, 20))
    picture.paste((1, 2, 3), (0, 20, 80, 40))
    assert console.print_picture(picture)
    lines = shown.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].count("\u2580") == 40
    assert "38;2;250;10;20;48;2;250;10;20" in lines[0]
    assert "38;2;1;2;3;48;2;1;2;3" in lines[-1]
    monkeypatch.setattr(sys, "stdout", piped := io.StringIO())
    assert not console.print_picture(picture)
    assert piped.getvalue() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--describer", "openai"), "--describer openai needs the address of a server."),
        (("--describer", "openai", "--base-url", "here"), "address of a server, not 'here'"),
        (("--describer", "chat", "--base-url", "http://h/v1"), "does not use --base-url"),
        (("--describer", "dataset", "--load-in", "4bit"), "dataset does not use --load-in"),
        (("--shard", "3/2"), "--shard is '3/2'."),
        (
            ("--describer", "chat", "--prompt-file", "p.txt", "--what", "all"),
            "--prompt-file is the prompt of one kind of text, and --what is all.",
        ),
        (("--describer", "chat", "--prompt-file", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_settings_that_make_no_question_are_refused_in_one_line(ric, data, words, message):
    said = ric("describe", data, *TINY, *words)
    assert said.code == 1
    assert message in said.err
    assert not Path("runs").exists()


def test_what_is_not_installed_is_told_with_how_to_get_it(ric, data, monkeypatch):
    from ric import extras

    monkeypatch.setattr(extras, "find_spec", lambda package: None)
    server = ("--describer", "openai", "--base-url", "http://127.0.0.1:9/v1")
    for words, package, extra in (
        (server, "--describer openai needs openai", "ric[openai]"),
        (("--describer", "chat", "--load-in", "4bit"), "--load-in 4bit needs bitsandbytes", "8bit"),
    ):
        said = ric("describe", data, *TINY, *words)
        assert said.code == 1
        assert f"{package}, which is not installed." in said.err
        assert extra in said.err


def test_a_dry_run_sends_nothing_to_a_server(ric, data):
    pytest.importorskip("openai", reason="openai is not installed")
    from chat_server import says, serving

    with serving(lambda n, body: says("A ball.")) as server:
        words = ("describe", data, *TINY, "--describer", "openai", "--base-url", server.url)
        said = ric(*words, "--dry-run", "--json")
        assert said.code == 0
        assert json.loads(said.out)["settings"]["base_url"] == server.url
        assert server.asked == []
        assert ric("describe", data, *TINY, "--run", "run").code == 3
        assert server.asked == []


def test_a_text_that_the_data_lacks_is_named_by_its_column(ric, data):
    said = ric("describe", data, *TINY, "--what", "region", "--run", "run")
    assert said.code == 1
    assert "the data has no region_text for it" in said.err
