"""The same scenes on every machine: pinned hashes, other processes, other CPU instructions."""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ric.data.drawn_scenes import SceneStream
from ric.scenes.words import texts_of

SCENES = Path(__file__).parents[2] / "ric/scenes"
IDS = (0, 1, 2, 5, 9, 11, 14, 20, 33)

# Raise dataset.RECIPE when these change on purpose: the same ids then show other pictures.
PINNED = {
    "drawn": "9b6348b08a96596b4504b5db30ed01379f512bd906539e48348ab4e7dd6238f7",
    "plain": "6ea0defde038d0c19608b2f23fd4f3d4f9ba314ec7b521428f593558a35fe569",
    "photos": "339e7e04485643daca88db19236bf60ee75d0d700a39013ff8a63f0c6bec4dcf",
}


def digest(name: str) -> str:
    stream = SceneStream(count=100, seed=3, shadows=name != "plain", photos=name == "photos")
    found = hashlib.sha256()
    for index in IDS:
        edit, pair = stream.draw(index)
        for pixels in vars(pair).values():
            found.update(pixels.tobytes())
        texts = texts_of(edit, stream.seed, index, shadows=stream.shadows)
        found.update(repr((texts, edit.wanted, edit.split)).encode())
    return found.hexdigest()


def in_another_process(**environment: str) -> list[str]:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + (
        "from test_determinism import PINNED, digest\nprint(*map(digest, PINNED))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77", **environment},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ran.stdout.split()


@pytest.mark.parametrize("name", PINNED)
def test_pixels_and_texts_are_those_that_were_pinned(name):
    assert digest(name) == PINNED[name]


def test_a_cpu_without_wide_registers_or_fused_sums_gives_the_same_bits():
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    # only features that this build dispatches on may be named: others are refused or warned of
    present = [name for name in __cpu_dispatch__ if __cpu_features__[name]]
    found = in_another_process(NPY_DISABLE_CPU_FEATURES=" ".join(present))
    assert found == list(PINNED.values())


def test_the_renderer_calls_only_what_every_cpu_computes_alike():
    exact = {
        "abs", "arange", "array", "asarray", "ascontiguousarray", "broadcast_to", "concatenate",
        "copyto", "cumsum", "flatnonzero", "float32", "floor", "full", "int64", "intp", "maximum",
        "minimum", "ndarray", "ones", "sqrt", "uint8", "int8", "int32", "bool_", "where", "zeros",
        "zeros_like", "repeat",
    }  # fmt: skip
    for path in SCENES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert node.value.id != "np" or node.attr in exact, (path.name, node.attr)
                assert node.value.id != "math" or node.attr == "sqrt", (path.name, node.attr)
            if isinstance(node, ast.BinOp):
                powers = isinstance(node.op, ast.Pow | ast.MatMult)
                assert not powers or path.name == "draws.py", (path.name, node.lineno)


def test_a_sample_does_not_depend_on_how_many_there_are():
    short, long = SceneStream(count=3, seed=4), SceneStream(count=3000, seed=4)
    for ours, theirs in zip(short, long, strict=False):
        assert vars(ours) | {"pictures": 0} == vars(theirs) | {"pictures": 0}
        assert ours.pictures.source == theirs.pictures.source


def test_size_shadows_and_photographs_change_no_layout():
    for index in range(12):
        plain = SceneStream(count=1, seed=5).draw(index)[0]
        photo = SceneStream(count=1, seed=5, photos=True).draw(index)[0]
        assert plain.source.things == photo.source.things
        assert plain.target.things == photo.target.things
        large = SceneStream(count=1, seed=5, size=96, shadows=False).draw(index)[0]
        assert large == plain
