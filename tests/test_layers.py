"""Imports point one way, and the packages that must stay light import nothing heavy."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STANDARD = sys.stdlib_module_names


def imports(path: Path, *, everywhere: bool = True, types: bool = False) -> set[str]:
    """List what a file imports.

    Args:
        path: The file.
        everywhere: False: only what runs on import.
        types: Also what only the type checker reads.
    """
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
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


# errors, and how a folder of weights is looked at and opened
OF_THE_METHOD = {"ric.method", "ric.errors", "ric.model_files", "ric.pretrained"}


@pytest.mark.parametrize("path", files("ric/method"), ids=str)
def test_the_method_imports_only_its_libraries_and_the_errors(path):
    for name in imports(path):
        allowed = {"torch", "transformers", "diffusers", "safetensors"}
        ours = package(name, 2) in OF_THE_METHOD
        assert ours or package(name) in allowed | STANDARD, f"{path} imports {name}"


# What each room of ric/ may import of the others; a file beside the rooms is a room of its own.
FOUNDATION = {
    "errors", "config", "progress", "interrupt", "lfs_pointer", "plain_line", "table_text",
}  # fmt: skip
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "addresses": {"errors"},
    "config": set(),
    "progress": set(),
    "interrupt": set(),
    "lfs_pointer": set(),
    "plain_line": set(),
    "table_text": {"plain_line"},
    "cache_folders": set(),
    "splits": set(),
    "extras": {"errors"},
    "worker_processes": {"errors"},
    "launcher": {"errors"},
    "protocols": {"errors", "config"},
    "metric_table": {"config", "protocols"},
    "registry": {"errors", "config", "protocols", "metric_table"},
    "device": {"errors"},
    "config_file": {"errors"},
    "setting_values": {"errors", "config"},
    "settings": {"errors", "config", "protocols", "registry", "setting_values"},
    "scenes": {"splits"},
    "model_files": {"errors", "lfs_pointer"},
    "pretrained": {"errors", "model_files"},
    "method": {"errors", "model_files", "pretrained"},
    "weights": FOUNDATION | {"cache_folders", "model_files"},
    "data": FOUNDATION | {"splits", "scenes", "weights"},
    "runs": FOUNDATION
    | {"addresses", "settings", "device", "model_files", "method", "weights", "data"},
    "distributed": FOUNDATION | {"launcher", "runs"},
    "work": FOUNDATION | {"device", "distributed", "data", "runs"},
    "models": FOUNDATION
    | {"metric_table", "registry", "model_files", "pretrained", "weights", "data", "runs"},
    "describers": FOUNDATION
    | {"extras", "registry", "device", "model_files", "pretrained", "method", "data"},
    "editors": FOUNDATION
    | {"registry", "device", "model_files", "pretrained", "method", "data", "models"},
    "metrics": FOUNDATION | {"scenes", "model_files", "pretrained"},
    "scoring": FOUNDATION
    | {"addresses", "protocols", "metric_table", "registry", "weights", "data", "runs", "work"}
    | {"method", "models", "describers", "metrics"},
    "report": FOUNDATION
    | {"metric_table", "settings", "device", "weights", "scenes", "data", "runs", "metrics"}
    | {"scoring"},
    "inputs": FOUNDATION
    | {"cache_folders", "worker_processes", "device", "method", "data", "runs", "models"}
    | {"distributed", "work"},
    "training": FOUNDATION
    | {"settings", "registry", "extras", "device", "method", "data", "runs", "models"}
    | {"distributed", "work", "inputs", "metrics"}
    | {"editors", "report"},
    "memory": FOUNDATION
    | {"extras", "device", "model_files", "pretrained", "method", "weights", "data", "work"}
    | {"models", "training"},
    "reproduction": {"errors", "config", "settings", "data", "runs"},
    "preflight": FOUNDATION
    | {"registry", "settings", "extras", "device", "model_files", "weights", "data", "runs"}
    | {"models", "describers", "training", "scoring", "memory", "reproduction"},
}
TOP = {"recipes", "api"}  # import any room, and none imports them


def room(module: str) -> str:
    return module.split(".")[1]


def rooms_imported(path: Path) -> set[str]:
    """List which other rooms a file imports, for types and in a function's body too."""
    names = imports(path, types=True)
    return {room(name) for name in names if name.startswith("ric.")} - {own_room(path)}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def own_room(path: Path) -> str:
    return path.relative_to(ROOT / "ric").with_suffix("").parts[0]


@pytest.mark.parametrize("path", [p for p in files("ric") if p.stem != "__init__"], ids=str)
def test_a_file_imports_only_the_rooms_that_its_own_may(path):
    own = own_room(path)
    if own not in TOP:
        assert rooms_imported(path) <= ROOMS[own], path


def test_no_room_is_left_out_of_the_table_and_none_stands_there_for_nothing():
    there = {own_room(path) for path in files("ric") if path.parent.name != "ric"}
    beside = {path.stem for path in files("ric") if path.parent.name == "ric"} - {"__init__"}
    assert ROOMS.keys() | TOP == there | beside


def test_imports_go_one_way_between_rooms():
    """Each room may import only rooms that stand above it in the table."""
    seen: set[str] = set()
    for name, allowed in ROOMS.items():
        assert allowed <= seen, f"{name} may import {allowed - seen}, which come after it"
        seen.add(name)


def test_no_two_files_import_one_another_not_even_from_within_functions():
    graph = {module_name(path): imports(path) for path in files("ric")}

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        todo = list(graph[start])
        while todo:
            name = todo.pop()
            if name in graph and name not in found:
                found.add(name)
                todo += graph[name]
        return found

    assert [name for name in graph if name in reached(name)] == []


LIGHT = [
    ROOT / "ric/config.py",
    ROOT / "ric/settings.py",
    ROOT / "ric/setting_values.py",
    ROOT / "ric/config_file.py",
    ROOT / "ric/protocols.py",
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
