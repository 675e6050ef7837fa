"""`import ric`: the same pictures and numbers as the commands give."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ric
from ric.config import EditConfig, EvalConfig, as_dict
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.settings import resolve_config

FEW = {"preset": "tiny", "steps": 2, "device": "cpu", "dtype": "fp32"}
ROOT = Path(__file__).parents[1]
OF_PIXELS = "l1,l2,psnr_outside"


@pytest.fixture(scope="module")
def editor(tiny_family):
    return ric.load_editor("ip2p", **FEW)


@pytest.fixture(scope="module")
def drawn():
    return list(ric.draw_scenes(3, seed=5))


def test_importing_ric_imports_nothing_heavy_and_everything_it_names_is_there():
    told = subprocess.run(
        [sys.executable, "-c", "import ric, sys; print('torch' in sys.modules, ric.__version__)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert told[0] == "False"
    assert told[1][0].isdigit()
    for name in ric.__all__:
        assert getattr(ric, name)
    assert set(ric.__all__) <= set(dir(ric))
    with pytest.raises(AttributeError, match="no attribute 'edit'"):
        ric.edit  # noqa: B018


def test_an_edit_is_the_command_s_own(editor, drawn, tmp_path):
    source = drawn[0].load_source()
    photo = tmp_path / "picture.png"
    source.save(photo)
    config = resolve_config(EditConfig, {**FEW, "data": str(photo), "instruction": "make it night"})
    with open_run("edit", as_dict(config), runs_dir=tmp_path) as run:
        edit(config, run)
    (row,) = run.rows("edits")
    theirs = np.asarray(Image.open(run.path / row["file_name"]).convert("RGB"))
    # the noise is a function of the edit's name
    ours = np.asarray(editor(source, "make it night", name=row["id"]).convert("RGB"))
    assert np.array_equal(ours, theirs)
    assert np.array_equal(ours, np.asarray(editor(photo, "make it night", name=row["id"])))


def test_outside_a_mask_every_pixel_and_the_alpha_stay(editor, drawn):
    source = drawn[0].load_source().convert("RGBA")
    source.putalpha(Image.linear_gradient("L").resize(source.size))
    mask = np.zeros(source.size[::-1], dtype=bool)
    mask[20:40, 10:30] = True
    edited = editor(source, "make it red", mask)
    assert (edited.size, edited.mode) == (source.size, "RGBA")
    before, after = np.asarray(source), np.asarray(edited)
    assert np.array_equal(before[~mask], after[~mask])
    assert np.array_equal(before[..., 3], after[..., 3])
    assert not np.array_equal(before[mask], after[mask])
    white = Image.fromarray(mask).convert("L")
    cut_out = Image.new("RGBA", source.size, "white")  # transparent pixels are no mask
    cut_out.putalpha(white)
    for as_picture in (white, cut_out):
        assert np.array_equal(after, np.asarray(editor(source, "make it red", as_picture)))


def test_a_seed_is_an_edit_s_own_or_the_editor_s(editor, drawn):
    source = drawn[1].load_source()
    first, again, other = (
        np.asarray(editor(source, "add a red ball", seed=seed)) for seed in (None, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones((5, 5), dtype=bool), "The mask is 5x5, and the picture 64x64"),
        (np.zeros((64, 64), dtype=bool), "The mask is empty"),
        (Image.new("L", (5, 5), "white"), "The mask is 5x5, and its photo is 64x64"),
    ],
)
def test_a_mask_that_cannot_be_is_told(editor, drawn, mask, said):
    with pytest.raises(ric.RicError, match=said):
        editor(drawn[0].load_source(), "make it red", mask)


def test_an_editor_or_a_setting_that_does_not_exist_is_told(tiny_family):
    with pytest.raises(ric.RicError, match="ip3p"):
        ric.load_editor("ip3p", **FEW)
    with pytest.raises(ric.RicError, match="step"):
        ric.load_editor("ip2p", **FEW, step=3)


def test_scores_are_those_of_the_command_of_folders_and_of_pictures(drawn, tmp_path, tiny_family):
    pictures = {
        "source": [sample.load_source() for sample in drawn],
        "target": [sample.load_target() for sample in drawn],
    }
    pictures["edited"] = [picture.rotate(3) for picture in pictures["target"]]
    for name, some in pictures.items():
        (tmp_path / name).mkdir()
        for number, picture in enumerate(some):
            picture.save(tmp_path / name / f"{number:06d}.png")
    places = {name: tmp_path / name for name in ("source", "target")}
    flags = {name: str(path) for name, path in places.items()}
    config = resolve_config(
        EvalConfig,
        {
            **flags,
            "edits": (f"edited={tmp_path / 'edited'}",),
            "preset": "tiny",
            "metrics": OF_PIXELS,
        },
    )
    with open_run("eval", as_dict(config), runs_dir=tmp_path / "runs") as run:
        theirs = evaluate(config, run)[0]
    of_folders = ric.score(edited=tmp_path / "edited", **places, preset="tiny", metrics=OF_PIXELS)
    of_lists = ric.score(**pictures, preset="tiny", metrics=OF_PIXELS)
    for key in ("l1", "l2"):
        assert of_folders[key].value == of_lists[key].value == theirs[key].value > 0
    with pytest.raises(ric.RicError, match="The lists are of 2 and 3 pictures"):
        ric.score(**{**pictures, "edited": pictures["edited"][:2]}, preset="tiny")


def test_a_list_of_no_picture_is_told(tiny_family):
    with pytest.raises(ric.RicError):
        ric.score(edited=[], source=[], preset="tiny", metrics="l1")


def code_of_the_notebook() -> list[str]:
    cells = json.loads((ROOT / "examples/from_python.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_runs_from_top_to_bottom(tiny_family, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in code_of_the_notebook():
        exec(compile(cell, "from_python.ipynb", "exec"), names)
    assert names["edited"].size == names["source"].size
    assert names["scores"]["l1"].n == 1
    assert list(tmp_path.iterdir()) == []


def test_the_page_on_python_shows_the_notebook_s_code():
    page = (ROOT / "docs/python.md").read_text()
    assert re.findall(r"```python\n(.*?)\n```", page, re.DOTALL) == code_of_the_notebook()
