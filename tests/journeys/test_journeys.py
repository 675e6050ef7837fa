"""Five users and what they type, offline, with nothing but pictures of their own.

The commands are the README's with `--preset tiny` and small numbers. Each journey prints them with
the minutes that they took (`pytest -s`). With `--slow` each command is a process of its own. Before
each command and at the end, whatever no command has written must be a picture: a user who had to
write a file by hand would have been left alone there.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from ric.data.drawn_scenes import SceneStream
from ric_cli.main import main

PICTURES = {".png", ".jpg"}
Type = Callable[..., str]


class UsersFolder:
    """A user's folder, and its files as commands have left them."""

    def __init__(self, path: Path) -> None:
        self.path, self.left = path, dict[Path, tuple[int, int]]()

    def files(self) -> dict[Path, tuple[int, int]]:
        """Give each file's size and time of writing."""
        found = (file for file in self.path.rglob("*") if file.is_file())
        return {file: (file.stat().st_size, file.stat().st_mtime_ns) for file in found}

    def leave(self) -> None:
        """A command has ended: whatever there is, it or an earlier one has made."""
        self.left = self.files()

    def refuse_writing(self) -> None:
        """Fail on a file that is new or other since the last command, unless it is a picture."""
        others = (file for file, state in self.files().items() if self.left.get(file) != state)
        if by_hand := [file.name for file in others if file.suffix not in PICTURES]:
            pytest.fail(f"a user would have to write {', '.join(by_hand)} by hand")


@pytest.fixture(params=["here", pytest.param("as processes", marks=pytest.mark.slow)])
def ric(request, tmp_path, monkeypatch, capfd) -> Iterator[Type]:
    """Type a command in the user's folder; return what it printed, and hold its exit code."""
    folder = UsersFolder(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "RIC_TINY_FAMILY"):
        monkeypatch.delenv(name, raising=False)  # the family that ric brings
    monkeypatch.setenv("COLUMNS", "80")

    def run_here(words: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", ["ric", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return int(left.value.code or 0)

    def run_process(words: list[str]) -> int:
        program = [sys.executable, "-m", "ric_cli", *words]
        return subprocess.run(program, env=os.environ | {"TERM": "dumb"}, check=False).returncode

    run = run_here if request.param == "here" else run_process

    def type_command(command: str, *, code: int = 0) -> str:
        folder.refuse_writing()
        began = time.monotonic()
        found = run(shlex.split(command))
        folder.leave()
        told = "".join(capfd.readouterr())
        with capfd.disabled():
            print(f"\n$ ric {command}    # {(time.monotonic() - began) / 60:.1f} min", end="")
        assert found == code, told
        return told

    yield type_command
    folder.refuse_writing()


@pytest.fixture
def pictures(tmp_path) -> None:
    """Photos of a user's own, edits of them by somebody's program, and what they should be."""
    for sample in SceneStream(count=6, seed=7):
        name = f"{sample.id}.png"
        for folder, picture in (
            ("photos", sample.load_source()),
            ("out", Image.blend(sample.load_source(), sample.load_target(), 0.7)),
            ("others", Image.blend(sample.load_source(), sample.load_target(), 0.3)),
            ("truths", sample.load_target()),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            picture.save(tmp_path / folder / name)


def test_a_student_sees_what_the_paper_takes_and_goes_through_its_method(ric, tmp_path):
    told = ric('reproduce scenes:300@64#5 --preset tiny --dry-run --for-gpu "RTX 4090"')
    for word in ("hours", "disk", "RTX 4090"):
        assert word in told
    ric("describe scenes:300@64#5 --preset tiny")
    data = "scenes:300@64#5 --preset tiny --limit 8"
    few = f"{data} --batch-size 4"
    ric(f"fit-clip {few} --fusion-epochs 1 --joint-epochs 1 --no-controls")
    ric(f"fit-blip {few} --epochs 1 --descriptions @describe")
    judges = "--region-clip @fit-clip --scene-blip @fit-blip"
    ric(f"train-unet {few} --steps 2 --descriptions @describe {judges}")
    ric(f"edit {data} --unet @train-unet --candidates 2 {judges}")
    assert "Edit success" in ric(f"eval Ours=@edit --data {data}")
    ric("report @eval --out page")
    assert (tmp_path / "page" / "index.html").is_file()
    assert len(list((tmp_path / "runs").glob("0*"))) == 6


def test_a_photo_company_edits_a_folder_adds_a_photo_and_repeats_its_command(
    pictures, ric, tmp_path
):
    later = tmp_path / "photos" / "later.png"
    command = 'edit photos/ "make it red" --preset tiny --out edited/'
    ric(command)
    made = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "edited").glob("*.png")}
    assert len(made) == 6
    Image.new("RGB", (200, 120), "teal").save(later)
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    told = ric(command, code=3)  # one of them failed, the rest is there
    assert "broken" in told
    again = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "edited").glob("*.png")}
    assert made.items() <= again.items()
    assert Image.open(tmp_path / "edited" / "later.png").size == (200, 120)
    ric("report @edit --out page")
    assert (tmp_path / "page" / "index.html").is_file()


def test_a_researcher_scores_somebody_s_edits_and_nothing_else(pictures, ric, tmp_path):
    told = ric("eval Mine=out/ Theirs=others/ --source photos/ --target truths/ --preset tiny")
    for word in ("Mine", "Theirs", "Identity", "LPIPS", "FID"):
        assert word in told
    ric("report @eval --out page")
    assert (tmp_path / "page" / "index.html").is_file()
    ric("report @eval --out study --study 4")
    assert list((tmp_path / "study").glob("*.html"))
    told = ric("eval out/ truths/ --metrics fid,lpips --preset tiny")
    assert "FID" in told
    assert "CLIP-T" not in told


def test_without_a_network_a_laptop_is_told_what_it_has_and_shows_a_first_edit(ric, tmp_path):
    told = ric("doctor", code=0)
    assert "tiny" in told
    assert "missing" in ric("weights ls --for edit")
    ric("edit scenes:4000@64#3 --preset tiny --limit 12 --run strip")
    assert Image.open(tmp_path / "strip" / "sheet.png").size[0] > 500
    told = ric("edit scenes:4000@64#3 --limit 1", code=1)  # the paper's editor is not here
    assert "--preset tiny" in told


def test_a_maintainer_adds_an_editor_and_compares_it_with_one_of_ric_s(ric, tmp_path):
    mine = Path(__file__).parents[2] / "examples" / "add_an_editor.py"
    data = "scenes:300@64#5 --preset tiny --limit 6"
    ric(f"edit {data} --editor {mine}:Night")
    ric(f"edit {data} --editor zone")
    told = ric(f"eval Night=1 Zone=2 --data {data} --metrics l1,edit_success")
    assert "Night" in told
    assert "Zone" in told


@pytest.mark.parametrize("name", ["settings.yaml", "photos/texts.csv"])
def test_a_file_that_a_user_writes_between_two_commands_fails_a_journey(name, tmp_path):
    folder = UsersFolder(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    folder.refuse_writing()  # pictures are the user's own
    (tmp_path / "photos").mkdir()
    (tmp_path / name).write_text("made by a command")
    folder.leave()
    folder.refuse_writing()
    (tmp_path / name).write_text("and mended by hand")
    with pytest.raises(pytest.fail.Exception, match=Path(name).name):
        folder.refuse_writing()
