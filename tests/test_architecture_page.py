"""docs/architecture.md names files, folders and functions that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
FOLDERS = PAGE[PAGE.index("| folder") : PAGE.index("## Ten places")]
PLACES = PAGE[PAGE.index("| question") : PAGE.index("## Adding")]


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def defined(path: Path) -> set[str]:
    """List what a file defines or imports by name; methods as `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            methods = (item for item in node.body if isinstance(item, ast.FunctionDef))
            found |= {node.name, *(f"{node.name}.{item.name}" for item in methods)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
    return found


def test_every_folder_of_the_core_has_a_row_and_every_row_a_folder():
    named = {
        name.strip("/") for row in rows(FOLDERS) for name in re.findall(r"`([\w./]+)`", row[0])
    }
    there = {path.parent.name for path in (ROOT / "ric").glob("*/__init__.py")}
    assert there <= named
    for name in named:
        assert (ROOT / "ric" / name).exists(), name


def test_the_ten_places_are_there():
    assert len(rows(PLACES)) == 10
    for question, file_cell, name_cell in rows(PLACES):
        files = [
            ROOT / ("" if name.startswith("ric_cli") else "ric") / name
            for name in re.findall(r"`([\w/]+\.py)`", file_cell)
        ]
        names = re.findall(r"`([\w.]+)`", name_cell)
        assert files, question
        assert names, question
        known = set().union(*(defined(file) for file in files))
        assert set(names) <= known, (question, set(names) - known)
