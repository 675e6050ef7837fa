"""Every command on a page of the docs is one that ric has, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.exceptions import TyperException

from ric_cli.commands import load_command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> Iterator[list[str]]:
    """Read the commands of a page's blocks and of its prose; "…" stands for words left out."""
    text = page.read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [" ".join(words.split()) for words in re.findall(r"`(ric [^`]+)`", prose)]
    for line in lines:
        for part in line.removeprefix("$ ").split(" && "):
            if part.startswith("ric "):
                words = shlex.split(part, comments=True)
                yield [word for word in words if word not in ("…", "...")]


def parse(words: list[str]) -> None:
    """Read a command's words as the command line does, without the checks of missing ones."""
    command, rest = load_command(words[1]), words[2:]
    while rest and (subcommands := getattr(command, "commands", None)):
        command = subcommands[rest.pop(0)]
    command.make_parser(typer.Context(command)).parse_args(rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_of_rics_with_options_that_it_has(page):
    for words in commands(page):
        if words[1].startswith("-") or words[1].isupper():
            continue
        try:
            parse(words)
        except TyperException as error:
            pytest.fail(f"{' '.join(words)}: {error}")


def test_the_readme_has_commands_and_a_wrong_one_is_found():
    assert len(list(commands(ROOT / "README.md"))) > 15
    with pytest.raises(TyperException):
        parse(["ric", "edit", "photo.jpg", "--no-such-option"])
