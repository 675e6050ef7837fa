from __future__ import annotations

import io
import os
from threading import Event

import fsspec
import pytest

from ric.data import open_file
from ric.data.images import ImageError, open_image, read_bytes
from ric.data.loose import read_texts
from ric.data.parquet_rows import find_tables
from ric.data.sample import load_samples
from ric.errors import RicError


class Endless(io.RawIOBase):
    """Gives zeros without end, as `readinto` is given its buffer."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return len(buffer)


class Silent(Endless):
    """Gives one byte, and then keeps the reader waiting until the test is over."""

    def __init__(self, over: Event) -> None:
        self.reads, self.over = 0, over

    def readinto(self, buffer) -> int:
        self.reads += 1
        if self.reads > 1:
            self.over.wait(30)
            return 0
        return 1


@pytest.fixture
def stranger():
    """Register a file system of strangers, as `stranger://endless` and `stranger://silent`."""
    over = Event()

    class Files(fsspec.AbstractFileSystem):
        protocol = "stranger"

        def _open(self, path, mode="rb", **_):
            kinds = {"picture": io.BytesIO(b"picture"), "silent": Silent(over)}
            return kinds.get(path, Endless())

    fsspec.register_implementation("stranger", Files, clobber=True)
    yield "stranger:/"
    over.set()


def test_a_fetch_is_bounded_in_bytes_and_time(stranger, monkeypatch):
    assert read_bytes(f"{stranger}/picture") == b"picture"
    monkeypatch.setattr(open_file, "MOST_BYTES", 3 << 20)
    with pytest.raises(ImageError, match=r"/endless' cannot be read: it is larger than 3 MB\."):
        read_bytes(f"{stranger}/endless")
    monkeypatch.setattr(open_file, "MOST_SECONDS", 0.5)
    with pytest.raises(ImageError, match=r"/silent' cannot be read: it takes over 0\.5 seconds\."):
        open_image(f"{stranger}/silent")


def special(folder, kind: str, name: str):
    """Put a pipe, or a link to a device or to nothing, where a file should be."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else folder / "gone")
    return path


WORDS = {
    "pipe": "is not a file but a pipe or a device.",
    "device": "is not a file but a pipe or a device.",
    "dead link": "which does not exist.",
}


@pytest.mark.parametrize("kind", list(WORDS))
def test_pipes_devices_and_dead_links_are_told_and_never_opened(tmp_path, kind):
    """Opening one would wait for ever, or read without end."""
    picture = special(tmp_path / "a", kind, "a.png")
    for read in (open_image, read_bytes):
        with pytest.raises(ImageError) as caught:
            read(picture)
        assert str(picture) in caught.value.message
        assert caught.value.message.endswith(WORDS[kind])
    for name in ("a.parquet", "a.arrow"):
        table = special(tmp_path / name[2:], kind, name)
        with pytest.raises(RicError) as caught:
            find_tables(table.parent)
        assert caught.value.message.endswith(WORDS[kind])
    with pytest.raises(RicError) as caught:
        read_texts(special(tmp_path / "texts", kind, "texts.csv"), lambda line: None)
    assert caught.value.message.endswith(WORDS[kind])


def test_file_addresses_are_held_to_what_holds_for_a_folder(edits, noise):
    folder = edits({"source_file_name": "source/link.png"})
    assert load_samples(f"file://{folder}").kind == "folder"
    noise().save(folder.parent / "outside.png")
    os.symlink(folder.parent / "outside.png", folder / "source/link.png")
    for scheme in ("file", "local"):
        with pytest.raises(RicError, match="which is outside its folder"):
            list(load_samples(f"{scheme}://{folder}", on_failure=lambda _: None))


def test_a_chain_of_addresses_is_no_data(edits):
    for chain in (f"simplecache::file://{edits({})}", "zip://edits::https://host/edits.zip"):
        with pytest.raises(RicError, match="is a chained address") as caught:
            load_samples(chain)
        assert "Name a plain one" in str(caught.value.hint)


def test_a_row_of_remote_data_cannot_chain_an_address_to_its_own():
    files = fsspec.filesystem("memory")
    row = b'{"id": "a", "source_file_name": "a::x.png", "instruction": "x"}\n'
    files.pipe("/chained/metadata.jsonl", row)
    with pytest.raises(RicError, match="which is outside its folder"):
        list(load_samples("memory://chained"))
