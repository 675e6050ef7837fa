"""A small data set, the tiny configs on it, an empty store, and what stops a recipe half-way."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image, ImageDraw

from ric.config import CommandConfig, as_dict
from ric.progress import Silent
from ric.runs.open_run import open_run
from ric.runs.run import RunDir
from ric.settings import resolve_config
from ric_cli.job import SHARED

SIZE = (96, 80)  # not square: squashing to 64 x 64 must show
COLOURS = {"red": "#c81e1e", "green": "#1e963c", "blue": "#284dd2", "yellow": "#e6d220"}
PLACES = {"near": (8, 40, 40, 72), "far": (52, 6, 84, 34)}


def _row(folder: Path, number: int) -> dict[str, Any]:
    """Draw one edit: an empty field becomes one with a ball, whose colour and place tell it."""
    colour = list(COLOURS)[number % 4]
    place = list(PLACES)[number // 4 % 2]
    box = PLACES[place]
    source = Image.new("RGB", SIZE, (90 + 12 * number, 140, 200 - 9 * number))
    ImageDraw.Draw(source).rectangle((0, 56, 96, 80), fill=(70, 60 + 9 * number, 50))
    target, mask = source.copy(), Image.new("L", SIZE)
    ImageDraw.Draw(target).ellipse(box, fill=COLOURS[colour])
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    row = {
        "id": f"{number:02d}",
        "instruction": f"add a {colour} ball {place} the tree",
        "region_text": f"a {colour} ball {place} number {number}",
        "scene_text": f"the picture shows a {colour} ball {place} on grass number {number}",
        "split": "train",
    }
    for name, picture in (("source", source), ("target", target), ("mask", mask)):
        (folder / name).mkdir(exist_ok=True)
        picture.save(folder / name / f"{row['id']}.png")
        row[f"{name}_file_name"] = f"{name}/{row['id']}.png"
    return row


MakeEdits = Callable[..., Path]


@pytest.fixture(scope="session")
def make_edits(tmp_path_factory: pytest.TempPathFactory) -> MakeEdits:
    """Write a folder of `count` edits; `changes` are laid over its rows (None removes a key)."""

    def make(count: int, changes: dict[int, dict[str, Any]] | None = None) -> Path:
        folder = tmp_path_factory.mktemp("edits")
        lines = []
        for number in range(count):
            row = _row(folder, number) | (changes or {}).get(number, {})
            lines.append(
                json.dumps({key: value for key, value in row.items() if value is not None})
            )
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return make


@pytest.fixture(scope="session")
def edits(make_edits: MakeEdits) -> Path:
    """Eight edits to fit and three of the val split."""
    return make_edits(11, {number: {"split": "val"} for number in (8, 9, 10)})


@pytest.fixture(scope="session")
def tiny(tiny_family: Path) -> Callable[..., Any]:
    """A command's config as `--preset tiny` gives it, on the CPU and in float32."""

    def make(kind: type[CommandConfig], data: Path, **changes: Any) -> Any:
        base = {"preset": "tiny", "data": str(data), "device": "cpu", "dtype": "fp32"}
        return resolve_config(kind, base | changes)

    return make


Recipe = Callable[..., Path]


@contextmanager
def _opened(command: str, config: CommandConfig, folder: Path) -> Iterator[RunDir]:
    opening = {"runs_dir": folder.parent, "run": folder}
    opening |= {"compares": command == "edit", "shared": command in SHARED}
    with open_run(command, as_dict(config), **opening) as run:  # type: ignore[arg-type]
        yield run


@pytest.fixture(scope="session")
def follow() -> Callable[..., Path]:
    """Follow a recipe in `folder` as its command does; return the folder."""

    def call(recipe: Recipe, config: CommandConfig, folder: Path, progress: Any = None) -> Path:
        command = recipe.__name__.replace("_", "-")
        with _opened(command, config, folder) as run:
            recipe(config, run, progress)
        return folder

    return call


class StopAfter(Silent):
    """A progress that sends this process a signal once a stage has advanced so often."""

    def __init__(self, stage: str, steps: int, number: int = signal.SIGINT) -> None:
        self.wanted, self.left, self.number, self.now = stage, steps, number, ""

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, done: int = 0, unit: str = "steps"
    ) -> Iterator[StopAfter]:
        outer, self.now = self.now, name
        yield self
        self.now = outer

    def advance(self, count: int = 1, **values: float) -> None:
        if count and self.now == self.wanted:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(self.number)


@pytest.fixture
def stop_after() -> type[StopAfter]:
    return StopAfter


@pytest.fixture(scope="session")
def record_of() -> Callable[[Path], dict[str, Any]]:
    return lambda folder: json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="session")
def metrics_of() -> Callable[[Path], list[dict[str, Any]]]:
    """The rows of metrics.jsonl without what the clock decides."""

    def read(folder: Path) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]

    return read


@pytest.fixture
def trained_on(tmp_path: Path, tiny_family: Path) -> Callable[..., Path]:
    """A finished training run that lists `groups` and has the tiny pipeline."""

    def make(
        groups: Iterable[str], *parents: Path, command: str = "train-unet", name: str = "trained"
    ) -> Path:
        with open_run(command, {}, runs_dir=tmp_path, run=tmp_path / name) as run:
            for number, group in enumerate(groups):
                run.append("samples", {"id": str(number), "group": group})
            for parent in parents:
                run.add_parent(parent)
            if command == "train-unet":
                shutil.copytree(tiny_family / "pipeline", run.path / "pipeline")
        return run.path

    return make


@pytest.fixture
def store() -> Iterator[Any]:
    """The files of `memory://`, none at first."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()
