"""The part of a sample that a command cannot do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.config import DescribeConfig, EditConfig, EvalConfig
from ric.describers.prompt import PLACE, prompts_of
from ric.registry import texts_read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ric.config import CommandConfig, What


def needs_instruction(config: CommandConfig) -> bool:
    """Tell whether a sample without an instruction is a failure of this command.

    Raises:
        RicError: `--prompt-file` cannot be read.
    """
    if isinstance(config, EditConfig):
        return config.instruction is None and "instruction" in texts_read("editor", config.editor)
    if isinstance(config, DescribeConfig):
        prompts = prompts_of(config)
        return instructed_kinds(config, prompts) >= prompts.keys()
    return not isinstance(config, EvalConfig)


def instructed_kinds(config: DescribeConfig, prompts: Mapping[What, str]) -> frozenset[What]:
    """Return the kinds of text whose prompts have a place for the instruction."""
    if "instruction" not in texts_read("describer", config.describer):
        return frozenset()
    return frozenset(what for what, prompt in prompts.items() if PLACE in prompt)
