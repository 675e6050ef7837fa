"""The list of commands says of each what its own help says, and imports none that is not typed."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from ric_cli.commands import COMMANDS, load_command


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_by_the_first_line_of_its_help(name):
    _, _, line = COMMANDS[name]
    assert load_command(name).help.splitlines()[0] == line
    assert load_command(name).name == name


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["edit", "--help"], " edit [OPTIONS] "),
        (["runs", "ls", "--help"], " runs ls [OPTIONS]"),
        (["weights"], " weights [OPTIONS] COMMAND"),
    ],
)
def test_the_help_of_a_command_names_it_as_it_is_typed(ric, words, usage):
    said = ric(*words)
    assert usage in said.out + said.err
    assert "--install-completion" not in said.out


def test_a_slip_of_the_pen_is_given_the_command_that_was_meant(ric):
    said = ric("train-une")
    assert said.code == 2
    assert "Did you mean 'train-unet'?" in said.err


def test_the_version_is_that_of_the_package(ric):
    said = ric("--version")
    assert said.code == 0
    assert said.out.split() == ["ric", version("ric")]
