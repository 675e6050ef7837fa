"""`ric edit --out memory://…`: the run keeps its pictures, and an address gets a copy of each."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import fsspec
import pytest
from noting import Noting
from PIL import Image

from ric.config import EditConfig, EvalConfig, as_dict
from ric.data import open_file
from ric.data.opened import open_data
from ric.errors import RicError
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.runs import join_shards
from ric.runs.edited_pictures import run_into
from ric.runs.open_run import open_run
from ric.runs.remote_folder import RemoteFolder
from ric.runs.uploads import MOST_IN_A_ROW
from ric.scoring.read_scores import read_scores

INVERTS = """
import os
from PIL import ImageOps

class Inverts:
    def __init__(self, model, config, device): pass
    def edit(self, requests, between_steps=lambda: None):
        with open(os.environ["RIC_TEST_MADE"], "a") as made:
            made.writelines(f"{request.id}\\n" for request in requests)
        return [ImageOps.invert(request.image) for request in requests]
    def describe(self): return {}
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("cat.png", "trips/dog.jpg", "trips/eel.png")):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (50 * number, 90, 200)).save(file)
    return tmp_path / "photos"


@pytest.fixture
def config(tiny, photos, store, tmp_path, monkeypatch) -> Callable[..., EditConfig]:
    """An edit that inverts the photos' colours, and notes which it was asked for."""
    (tmp_path / "inverts.py").write_text(INVERTS)
    monkeypatch.setenv("RIC_TEST_MADE", str(tmp_path / "made"))
    usual = {"editor": f"{tmp_path}/inverts.py:Inverts", "instruction": "invert it"}
    usual |= {"recursive": True, "out": "memory://bucket/edited", "batch_size": 1}

    def make(data: Path | str = photos, **changes: Any) -> EditConfig:
        settings = {**usual, **changes}
        return tiny(EditConfig, data, **{k: v for k, v in settings.items() if v != "absent"})

    return make


def made(tmp_path: Path) -> list[str]:
    """What the editor was asked for since this was last called."""
    file = tmp_path / "made"
    asked = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return asked


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    file = run / f"{kind}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def held(store: Any, place: str = "/bucket/edited") -> dict[str, bytes]:
    return {
        path.removeprefix(f"{place}/"): store.cat_file(path)
        for path in sorted(store.store)
        if path.startswith(place)
    }


def pictures(run: Path) -> dict[str, bytes]:
    return {
        file.relative_to(run / "images").as_posix(): file.read_bytes()
        for file in sorted((run / "images").rglob("*.*"))
        if file.is_file()
    }


THREE = ["cat.png", "trips/dog.jpg", "trips/eel.png"]


def test_every_edit_of_photos_is_also_at_the_address_and_a_row_says_where(
    config, store, follow, tmp_path
):
    noting = Noting()
    run = follow(edit, config(), tmp_path / "run", noting)
    assert held(store) == pictures(run)
    assert list(held(store)) == THREE
    assert [row["file_name"] for row in rows(run, "edits")] == [f"images/{one}" for one in THREE]
    assert rows(run, "uploads") == [
        {"id": one[:-4], "address": f"memory://bucket/edited/{one}"} for one in THREE
    ]
    assert "3 edits are in memory://bucket/edited" in noting.lines
    assert (run / "sheet.png").is_file()
    # repeated, it makes and sends nothing
    stored = {path: file.modified for path, file in store.store.items()}
    made(tmp_path)
    follow(edit, config(), run)
    assert (made(tmp_path), len(rows(run, "uploads"))) == ([], 3)
    assert stored == {path: file.modified for path, file in store.store.items()}
    assert run_into(config(), run.parent) == run


def test_a_dataset_at_an_address_is_edited_into_another_and_scored(
    edits, tiny, config, store, follow, tmp_path
):
    store.put(f"{edits}/", "/data/edits", recursive=True)
    data = "memory://data/edits"
    into = config(data, split="val", instruction="absent", recursive="absent")
    run = follow(edit, into, tmp_path / "run")
    assert held(store) == pictures(run)
    assert list(held(store)) == ["08.png", "09.png", "10.png"]
    scored = tiny(EvalConfig, data, split="val", edits=(f"Mine={run}",), metrics="l1,l2")
    follow(evaluate, scored, tmp_path / "scored")
    labels = [row.label for row in read_scores(tmp_path / "scored")]
    assert "Mine" in labels


def test_files_of_others_are_refused_and_never_written_over(config, store, follow, tmp_path):
    store.pipe_file("/bucket/edited/trips/dog.jpg", b"another's")
    for _ in range(2):  # nor when it is repeated
        with pytest.raises(RicError) as caught:
            follow(edit, config(), tmp_path / "run")
        assert caught.value.message == (
            "1 of the results' files are in memory://bucket/edited already, such as"
            " memory://bucket/edited/trips/dog.jpg."
        )
        assert "--overwrite replaces them" in str(caught.value.hint)
    assert held(store) == {"trips/dog.jpg": b"another's"}
    run = follow(edit, config(overwrite=True), tmp_path / "other")
    assert held(store) == pictures(run)


def test_a_new_photo_of_a_finished_run_is_refused_where_another_has_its_name(
    config, photos, store, follow, tmp_path
):
    run = follow(edit, config(), tmp_path / "run")
    store.pipe_file("/bucket/edited/fox.png", b"another's")
    Image.new("RGB", (40, 30)).save(photos / "fox.png")
    with pytest.raises(RicError, match=r"such as memory://bucket/edited/fox\.png"):
        follow(edit, config(), run)
    assert held(store)["fox.png"] == b"another's"


def test_what_was_lost_or_has_changed_is_sent_again_and_what_it_replaces_is_removed(
    config, photos, store, follow, tmp_path
):
    run = follow(edit, config(), tmp_path / "run")
    made(tmp_path)
    store.rm_file("/bucket/edited/cat.png")
    Image.new("RGB", (40, 30), "red").save(photos / "trips/eel.png", format="JPEG")
    follow(edit, config(), run)
    assert made(tmp_path) == ["trips/eel"]
    assert held(store) == pictures(run)
    assert list(held(store)) == ["cat.png", "trips/dog.jpg", "trips/eel.jpg"]


def refuse(patch: pytest.MonkeyPatch, ending: str, error: Exception) -> list[str]:
    """Have the store refuse files of such an ending; return the list of what it is asked for."""
    tried: list[str] = []
    kind = fsspec.get_filesystem_class("memory")
    write = kind.pipe_file

    def pipe_file(self: Any, path: str, value: bytes, **how: Any) -> Any:
        tried.append(path)
        if path.endswith(ending):
            raise error
        return write(self, path, value, **how)

    patch.setattr(kind, "pipe_file", pipe_file)
    return tried


def test_a_write_that_is_refused_is_a_failure_and_sent_without_making_it_anew(
    config, store, follow, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        error = PermissionError("s3://key:s3cret@bucket/edited: Access Denied\nfor ever")
        refuse(patched, "dog.jpg", error)
        run = follow(edit, config(), tmp_path / "run")
    (failed,) = rows(run, "failures")
    assert (failed["id"], failed["stage"]) == ("trips/dog", "out")
    assert failed["reason"] == (
        "The edit is made, but was not written to memory://bucket/edited/trips/dog.jpg:"
        " s3://***@bucket/edited: Access Denied."
    )
    assert list(held(store)) == ["cat.png", "trips/eel.png"]
    made(tmp_path)
    follow(edit, config(), run)
    assert (made(tmp_path), rows(run, "failures")) == ([], [])
    assert held(store) == pictures(run)


def test_a_server_that_is_gone_is_not_asked_for_ever_and_all_edits_are_kept(
    config, photos, follow, tmp_path, monkeypatch
):
    for number in range(MOST_IN_A_ROW):
        Image.new("RGB", (40, 30)).save(photos / f"more{number}.png")
    tried = refuse(monkeypatch, "", OSError("Could not connect"))
    with pytest.raises(RicError, match=r"All 6 samples failed\. .* Could not connect\."):
        follow(edit, config(), tmp_path / "run")
    assert len(tried) == MOST_IN_A_ROW
    assert len(pictures(tmp_path / "run")) == len(rows(tmp_path / "run", "edits")) == 6
    assert (tmp_path / "run/sheet.png").is_file()


KILLED = """
import json, os, signal, sys
from pathlib import Path
import fsspec
from ric.config import EditConfig
from ric.recipes.edit import edit
from ric.runs.open_run import open_run
from ric.runs.remote_folder import RemoteFolder
from ric.runs.run import RunDir

when, folder, settings = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
config = EditConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
append, begun = RunDir.append, []

def dying(self, kind, row):
    begun.append(kind)
    if when == "before the row" and begun.count("uploads") == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, kind, row)
    if when == "before it" and begun.count("edits") == 2:
        os.kill(os.getpid(), signal.SIGKILL)

RunDir.append = dying
opening = {"runs_dir": folder.parent, "run": folder, "shared": True, "compares": True}
with open_run("edit", settings, **opening) as run:
    edit(config, run, None)
"""
STORE = """
import os
import fsspec
from fsspec.implementations.local import LocalFileSystem

class Kept(LocalFileSystem):
    protocol = "kept"

    @classmethod
    def _strip_protocol(cls, path):
        return str(path).replace("kept:/", os.environ["RIC_TEST_STORE"])

fsspec.register_implementation("kept", Kept, clobber=True)
"""


@pytest.mark.parametrize("when", ["before it", "before the row"])
def test_a_run_killed_round_a_write_goes_on_without_half_a_picture_or_a_row_too_many(
    config, follow, tmp_path, monkeypatch, when
):
    """The store is one that outlives a process."""
    out, run = tmp_path / "store", tmp_path / "run"
    out.mkdir()
    monkeypatch.setenv("RIC_TEST_STORE", str(out))
    exec(STORE, {})
    settings = config(out="kept://bucket/edited")
    words = [when, str(run), json.dumps(as_dict(settings))]
    child = subprocess.run([sys.executable, "-c", STORE + KILLED, *words], check=False)
    assert child.returncode == -signal.SIGKILL
    (arrived,) = run.glob("uploads-*.jsonl")
    assert len(arrived.read_text().splitlines()) == 1
    there = sorted(file.name for file in out.rglob("*.*"))
    assert there == ["cat.png", "dog.jpg"][: 1 if when == "before it" else 2]
    made(tmp_path)
    follow(edit, settings, run)
    assert made(tmp_path) == ["trips/eel"]
    for kind in ("edits", "uploads"):
        assert sorted(row["id"] for row in rows(run, kind)) == [one[:-4] for one in THREE]
    assert {one: (out / "bucket/edited" / one).read_bytes() for one in THREE} == pictures(run)


def test_the_address_and_its_secrets_are_nowhere_in_the_run(config, store, follow, tmp_path):
    address = "memory://key:s3cret@bucket/edited"
    run = follow(edit, config(out=address), tmp_path / "run")
    assert run_into(config(out=address), run.parent) == run
    follow(edit, config(out=address), run)
    told = "".join(file.read_text() for file in run.glob("*.json*"))
    assert "s3cret" not in told
    assert rows(run, "uploads")[0]["address"] == "memory://***@bucket/edited/cat.png"


def test_shards_send_their_own_and_are_joined_with_what_they_sent(config, store, follow, tmp_path):
    shards = [
        follow(edit, config(shard=f"{part}/2"), tmp_path / f"shard-{part}") for part in (1, 2)
    ]
    joined = join_shards(shards, runs_dir=tmp_path, run=tmp_path / "joined").path
    assert sorted(row["id"] for row in rows(joined, "uploads")) == [one[:-4] for one in THREE]
    assert held(store) == pictures(joined)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("nosuch://bucket/edited", r"nosuch://bucket/edited cannot be used: Protocol not known"),
        ("https://key:s3cret@host/edited", "pictures are not written to web servers"),
        ("file:///tmp/edited", "--out file:///tmp/edited is a folder of this machine"),
        ("simplecache::memory://edited", "is a chained address"),
    ],
)
def test_an_address_that_cannot_be_written_to_is_refused_at_once(
    config, follow, tmp_path, out, said
):
    with pytest.raises(RicError, match=said):
        follow(edit, config(out=out), tmp_path / "run")
    assert made(tmp_path) == []


def test_an_export_to_an_address_is_refused(config):
    with pytest.raises(RicError, match="is an address, and a benchmark's judge reads") as caught:
        open_data(config(out=None, export="memory://judged"))
    assert "--out ADDRESS" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["s3://bucket/runs", "memory://runs", "file:///runs"])
def test_a_run_stays_on_a_disk(name, tmp_path):
    for where in ({"run": Path(name), "runs_dir": tmp_path}, {"runs_dir": Path(name)}):
        with pytest.raises(RicError, match=r"runs and checkpoints stay on a disk") as caught:
            open_run("edit", {}, **where)
        assert "ric edit --out s3://bucket/edited" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_never_answers_is_waited_for_only_so_long(store, monkeypatch):
    folder, never = RemoteFolder("memory://bucket/out"), Event()
    monkeypatch.setattr(open_file, "MOST_SECONDS", 0.2)
    for name in ("find", "rm_file"):
        monkeypatch.setattr(type(store), name, lambda self, path: never.wait())
    try:
        folder.remove("a.png")
        with pytest.raises(RicError, match=r"cannot be listed: it takes over 0\.2 seconds"):
            folder.names()
    finally:
        never.set()
