"""Every command on a page of the docs is one that ric has, with options that it has."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pages import PAGES, ROOT, named, typed
from typer.exceptions import TyperException

from ric_cli.commands import load_command


def commands(page: Path) -> Iterator[list[str]]:
    """Split the commands of ric on a page, those of its prose too; "…" is for words left out."""
    for line in (*typed(page), *named(page)):
        words = [word for word in shlex.split(line) if word not in ("…", "...")]
        if "ric_cli" in words:  # of a launcher
            yield ["ric", *words[words.index("ric_cli") + 1 :]]
        elif words[0] == "ric":
            yield words


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
    readme = list(commands(ROOT / "README.md"))
    assert len(readme) > 15
    strip = ["scenes:4000@64#3", "--preset", "tiny", "--limit", "12", "--run", "strip"]
    assert ["ric", "edit", *strip] in readme  # whole: no comment begins amid a word
    launched = ["ric", "fit-clip", "DATA"]
    assert launched in list(commands(ROOT / "docs" / "fitting.md"))
    with pytest.raises(TyperException):
        parse(["ric", "edit", "photo.jpg", "--no-such-option"])
