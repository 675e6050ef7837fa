from __future__ import annotations

import io
import os
from threading import Event

import fsspec
import pytest

from ric.data import open_file, text_tables
from ric.data.images import ImageError, open_image, read_bytes
from ric.data.loose import read_texts
from ric.data.open_file import is_of_local_network
from ric.data.parquet_rows import find_tables
from ric.data.sample import load_samples
from ric.errors import RicError


class Endless(io.RawIOBase):
    """Gives spaces without end."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        buffer[:] = b" " * len(buffer)
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


class Breaks(Endless):
    """Gives a row, and then fails as a library does that has errors of its own."""

    def __init__(self) -> None:
        self.row = b'{"id": "a", "source_file_name": "a.png", "instruction": "x"}\n'

    def readinto(self, buffer) -> int:
        if not self.row:
            raise LookupError("the server has gone")
        buffer[: len(self.row)] = self.row
        length, self.row = len(self.row), b""
        return length


@pytest.fixture
def stranger():
    """Register a file system of strangers, as `stranger://endless` and `stranger://silent`."""
    over = Event()
    whole = {"breaks/metadata.jsonl": Breaks()}

    class Files(fsspec.AbstractFileSystem):
        protocol = "stranger"

        def _open(self, path, mode="rb", **_):
            kinds = {"picture": io.BytesIO(b"picture"), "silent": Silent(over), **whole}
            return kinds.get(path, Endless())

        def info(self, path, **_):
            if not path.endswith(".jsonl"):
                raise FileNotFoundError(path)
            return {"name": path, "type": "file"}

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


def test_a_remote_table_is_bounded_in_bytes_and_told_in_one_line_when_it_breaks(
    stranger, monkeypatch
):
    monkeypatch.setattr(text_tables, "LONGEST_LINE", 1 << 20)
    with pytest.raises(RicError, match=r"endless/metadata.jsonl', line 1, has over 1 million"):
        load_samples(f"{stranger}/endless")
    with pytest.raises(RicError, match=r"cannot be read on: the server has gone\."):
        list(load_samples(f"{stranger}/breaks"))
    monkeypatch.setattr(open_file, "MOST_BYTES_OF_A_TABLE", 1 << 10)
    with pytest.raises(RicError, match=r"endless/metadata.jsonl' gives more than 0 GB"):
        load_samples(f"{stranger}/endless")


@pytest.mark.parametrize("separator", ["\n", ","])
def test_a_line_of_a_table_is_held_to_a_length(tmp_path, monkeypatch, separator):
    monkeypatch.setattr(text_tables, "LONGEST_LINE", 100)
    place = tmp_path / ("metadata.jsonl" if separator == "\n" else "metadata.csv")
    place.write_text("source_file_name,instruction\n" * (separator == ",") + "x" * 101 + "\n")
    with pytest.raises(RicError, match=r"line \d, has over"):
        list(load_samples(tmp_path))


LOCAL = (
    "127.0.0.1", "127.1", "0x7f.0.0.1", "2130706433", "10.1.2.3:80", "192.168.0.9", "172.16.0.1",
    "169.254.169.254", "100.64.0.1", "0.0.0.0", "[::1]", "[fe80::1]:80", "[::ffff:127.0.0.1]",
    "[fd00::1]", "localhost", "LOCALHOST.", "a.localhost", "printer.local", "intranet", "224.0.0.1",
    "metadata.google.internal", "good.com@127.0.0.1", "\uff11\uff12\uff17.0.0.1", "[x",
)  # fmt: skip


@pytest.mark.parametrize("host", LOCAL)
def test_a_host_of_the_local_network_is_known_by_its_number_and_its_name(host):
    for scheme in ("http", "https"):
        assert is_of_local_network(f"{scheme}://{host}/a.png")


@pytest.mark.parametrize(
    "address",
    ["https://example.com/a.png", "http://93.184.216.34:8080/", "https://[2606:4700::1111]/a",
     "hf://datasets/a/b.png", "s3://bucket/a.png", "https://127.0.0.1.example.com/"],
)  # fmt: skip
def test_a_host_of_the_internet_and_a_bucket_are_none_of_the_local_network(address):
    assert not is_of_local_network(address)


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
        load_samples(picture)
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
            list(load_samples(f"{scheme}://{folder}").reporting(lambda _: None))


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
