"""Imports point one way, and the packages that must stay light import nothing heavy."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STANDARD = sys.stdlib_module_names


def imports(path: Path, *, everywhere: bool = True) -> set[str]:
    """List what a file imports; with `everywhere=False` only what runs on import."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
    return found


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def package(name: str, depth: int = 1) -> str:
    return ".".join(name.split(".")[:depth])


@pytest.mark.parametrize("path", files("ric"), ids=str)
def test_the_core_imports_neither_the_command_line_nor_typer_nor_rich(path):
    assert not {package(name) for name in imports(path)} & {"ric_cli", "typer", "rich", "click"}


@pytest.mark.parametrize("path", files("ric/method"), ids=str)
def test_the_method_imports_only_its_libraries_and_the_errors(path):
    for name in imports(path):
        allowed = {"torch", "transformers", "diffusers", "safetensors"}
        ours = package(name, 2) in ("ric.method", "ric.errors")
        assert ours or package(name) in allowed | STANDARD, f"{path} imports {name}"


@pytest.mark.parametrize("path", files("ric/metrics"), ids=str)
def test_metrics_know_nothing_of_recipes_runs_or_editors(path):
    for name in imports(path):
        if package(name) == "ric":
            allowed = ("ric.metrics", "ric.errors", "ric.config", "ric.data", "ric.scenes")
            assert package(name, 2) in allowed, name


@pytest.mark.parametrize("path", files("ric/data"), ids=str)
def test_data_knows_nothing_of_recipes_runs_or_models(path):
    for name in imports(path):
        if package(name) == "ric":
            allowed = ("ric.data", "ric.errors", "ric.config", "ric.weights", "ric.scenes")
            assert package(name, 2) in allowed, name


@pytest.mark.parametrize("folder", ["ric/method", "ric/metrics", "ric/data", "ric/editors"])
def test_only_recipes_and_the_command_line_import_recipes(folder):
    for path in files(folder):
        assert not any(package(name, 2) == "ric.recipes" for name in imports(path)), path


LIGHT = [
    ROOT / "ric/config.py",
    ROOT / "ric/settings.py",
    ROOT / "ric/errors.py",
    *files("ric_cli"),
]
HEAVY = {"torch", "torchvision", "transformers", "diffusers", "datasets", "accelerate", "numpy"}


@pytest.mark.parametrize("path", LIGHT, ids=str)
def test_config_errors_and_command_line_are_free_of_torch_at_import(path):
    assert not {package(name) for name in imports(path, everywhere=False)} & HEAVY


@pytest.mark.parametrize("path", files("ric_cli"), ids=str)
def test_commands_import_recipes_inside_their_bodies_only(path):
    names = imports(path, everywhere=False)
    assert not any(
        package(name, 2) in ("ric.recipes", "ric.method", "ric.editors") for name in names
    )


def test_nothing_is_called_utils_common_or_helpers():
    for folder in ("ric", "ric_cli", "tests", "benchmarks", "examples"):
        for path in files(folder):
            assert path.stem not in ("utils", "util", "common", "helpers", "helper", "misc"), path
