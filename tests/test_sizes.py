"""No function grows beyond a screen or needs more than five arguments, and no docstring asks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LONGEST, MOST = 60, 5

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Their arguments are another library's, or a formula's own letters.
GIVEN = {
    "ric/memory/activations.py:_efficient_attention",
    "ric/weights/read_pickle.py:_rebuild_v3",
    "ric/method/denoising.py:reverse_step",
}


def functions() -> Iterator[tuple[str, Function]]:
    for folder in ("ric", "ric_cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, Function):
                    yield f"{path.relative_to(ROOT)}:{node.name}", node


def declares_flags(function: Function) -> bool:
    """Tell whether a function's length is its flags: each an `Annotated` with its help."""
    return "Annotated[" in ast.unparse(function.args) or function.name == "_common_options"


def needed(function: Function) -> list[str]:
    """List the arguments that have no default, but for self and cls."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    positional = positional[: len(positional) - len(given.defaults)]
    named = [
        one for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if not default
    ]
    return [one.arg for one in (*positional, *named) if one.arg not in ("self", "cls")]


def test_no_function_but_the_flags_of_a_command_is_longer_than_sixty_lines():
    long = {
        name: function.end_lineno - function.lineno + 1
        for name, function in functions()
        if function.end_lineno and not declares_flags(function)
    }
    assert {name: length for name, length in long.items() if length > LONGEST} == {}


def test_no_function_needs_more_than_five_arguments():
    many = {name: needed(function) for name, function in functions() if name not in GIVEN}
    assert {name: names for name, names in many.items() if len(names) > MOST} == {}


def test_the_recipes_are_one_file_a_command_and_train_unet_has_at_most_200_lines():
    recipes = {path.stem for path in (ROOT / "ric" / "recipes").glob("*.py")} - {"__init__"}
    commands = {path.stem for path in (ROOT / "ric_cli").glob("*.py")}
    assert recipes <= commands
    assert len((ROOT / "ric/recipes/train_unet.py").read_text().splitlines()) <= 200


def test_a_docstring_says_what_a_thing_is_or_does_and_does_not_ask():
    asking = []
    for folder in ("ric", "ric_cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
                    first = (ast.get_docstring(node) or "").partition(" ")[0]
                    asking += [str(path)] * (first in {"What", "Which", "Whether", "How", "Why"})
    assert asking == []
