"""Where `ric eval` finds what editors made: runs by any of their names, or plain folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ric.data.edit_sample import EditSample, Pictures
from ric.errors import RicError
from ric.runs.open_run import open_run
from ric.scoring.outputs import Outputs, find_outputs


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (96, 80), (level, level, level))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder of pictures, by default those of three samples."""

    def make(made: dict[str, Image.Image] | None = None, name: str = "outputs") -> Path:
        folder = tmp_path_factory.mktemp(name)
        for file, picture in (made or {f"0{n}.png": grey(100) for n in range(3)}).items():
            picture.save(folder / file)
        return folder

    return make


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str], Outputs]:
    with open_run("eval", {}, runs_dir=tmp_path / "runs"):
        return lambda text: find_outputs(text, tmp_path / "runs")


@pytest.fixture
def edit_run(tmp_path: Path, outputs: Callable[..., Path]) -> Path:
    with open_run("edit", {}, runs_dir=tmp_path / "runs") as run:
        shutil.copytree(outputs(), run.path / "images")
    return run.path


def test_a_run_is_found_by_path_number_name_or_its_images(found, edit_run):
    for place in (str(edit_run), "2", "@edit", str(edit_run / "images")):
        edited = found(f"Mine={place}")
        assert (edited.label, edited.run, set(edited.files)) == (
            "Mine",
            edit_run,
            {"00", "01", "02"},
        )
        assert found(place).label == edit_run.name == "00002-edit"


def test_a_label_and_a_path_may_hold_equals_signs(found, outputs):
    folder = outputs(name="lr=1")
    assert found(f"lr=2={outputs()}").label == "lr=2"
    assert (found(str(folder)).label, found(str(folder)).folder) == (folder.name, folder)


def test_the_folder_one_is_in_has_its_own_name(found, outputs, monkeypatch):
    folder = outputs()
    monkeypatch.chdir(folder)
    assert found(".").label == folder.name


def test_a_place_with_nothing_is_an_error(found, tmp_path):
    with pytest.raises(RicError, match="No run and no folder of images at 'nowhere'"):
        found("Mine=nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("")
    with pytest.raises(RicError, match=f"There are no images in {tmp_path / 'empty'}"):
        found(f"Mine={tmp_path / 'empty'}")


def test_another_commands_run_is_an_error(found, tmp_path):
    with open_run("describe", {}, runs_dir=tmp_path / "runs") as run:
        pass
    with pytest.raises(RicError, match="is a run of `ric describe`; only edits are scored"):
        found(f"Mine={run.path}")


def test_two_pictures_of_one_name_are_neither_taken_for_it(found, outputs):
    made = outputs({"00.png": grey(1), "00.jpg": grey(2), "01.png": grey(3)})
    edited = found(f"Mine={made}")
    assert set(edited.files) == {"01"}
    assert edited.doubles == {"00": [made / "00.jpg", made / "00.png"]}


def test_outputs_are_named_in_the_normal_form_of_the_samples(found, outputs):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    folder = outputs({f"{apart}.png": grey(9)}, "apart")
    edited = found(f"Mine={folder}")
    sample = EditSample(id=composed, instruction="", pictures=Pictures(source=f"/a/{apart}.png"))
    assert edited.files[edited.name_of(sample)] == folder / f"{apart}.png"
    by_stem = replace(edited, match="stem")
    assert by_stem.files[by_stem.name_of(sample)] == folder / f"{apart}.png"


def test_a_resumed_run_may_say_itself_which_run_a_name_meant(found, edit_run, outputs, tmp_path):
    with open_run("edit", {}, runs_dir=tmp_path / "runs") as newer:
        shutil.copytree(outputs(), newer.path / "images")
    assert found("@edit").run == newer.path
    assert find_outputs("@edit", tmp_path / "runs", lambda reference: edit_run).run == edit_run


def test_outputs_are_found_without_torch():
    code = "import sys, ric.scoring.outputs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pictures_of_subfolders_are_found_by_name_or_by_a_folder_of_their_own(found, tmp_path):
    made = tmp_path / "made"
    for place in ("a/00.png", "a/b/01.jpg", "02/edited.png", "03/edited.png", ".trash/04.png"):
        (made / place).parent.mkdir(parents=True, exist_ok=True)
        grey(1).save(made / place)
    edited = found(f"Mine={made}")
    wanted = {"00": "a/00.png", "01": "a/b/01.jpg", "02": "02/edited.png", "03": "03/edited.png"}
    assert {name: edited.told(edited.found(name)[0]) for name in wanted} == wanted
    assert edited.found("04") == []
    (made / "other").mkdir()
    grey(2).save(made / "other/00.webp")
    assert found(f"Mine={made}").found("00") == [made / "a/00.png", made / "other/00.webp"]
    grey(2).save(made / "02/mask.png")  # which of the two is meant cannot be told
    assert found(f"Mine={made}").found("02") == []


def test_magicbrush_s_names_mean_its_turns(tmp_path):
    made = tmp_path / "made"
    for name in ("7/7_1", "7/7_inde_2", "7/7_iter_2", "8/8_1"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        grey(1).save(made / f"{name}.png")

    def files(turns: str | None) -> dict[str, str]:
        edited = find_outputs(f"Mine={made}", tmp_path, turns=turns)
        ids = ("7-1", "7-2", "8-1")
        return {name: edited.told(file) for name in ids for file in edited.found(name)}

    assert files("all") == {"7-1": "7/7_1.png", "7-2": "7/7_inde_2.png", "8-1": "8/8_1.png"}
    assert files("final") == {"7-1": "7/7_1.png", "7-2": "7/7_iter_2.png", "8-1": "8/8_1.png"}
    assert files(None) == {}
