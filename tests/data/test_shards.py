"""WebDataset's tar shards as DATA: read as a folder is, whatever a tar holds; never unpacked."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from ric.data.file_state import tables_state
from ric.data.sample import Samples, load_samples
from ric.data.shards import _expanded
from ric.errors import RicError, SampleError


def picture(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    return stream.getvalue()


RED, BLUE = picture("red"), picture("blue")
Members = Iterable[tuple[str | tarfile.TarInfo, bytes]]


def tar_of(members: Members) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = info.size or len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def without_end(content: bytes) -> bytes:
    content = content.rstrip(b"\0")
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def sample(key: str, **told: object) -> list[tuple[str, bytes]]:
    row = {"instruction": f"make {key} blue", **told}
    return [
        (f"{key}.source.png", RED),
        (f"{key}.target.png", BLUE),
        (f"{key}.json", json.dumps(row).encode()),
    ]


def of_kind(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(samples: Samples) -> tuple[list[str], dict[str, str]]:
    """Return the ids of good samples, and why others are bad."""
    bad: dict[str, str] = {}

    def note(error: SampleError) -> None:
        bad[error.sample_id] = error.reason

    return [one.id for one in samples.reporting(note)], bad


@pytest.fixture
def shard(tmp_path: Path):
    def write(*members: tuple[str | tarfile.TarInfo, bytes], name: str = "a.tar") -> Path:
        (tmp_path / name).write_bytes(tar_of(members))
        return tmp_path / name

    return write


def test_samples_are_those_of_the_same_edits_in_a_folder(shard, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    rows = [{"id": f"{n:03d}", "region_text": "a ball", "split": "val"} for n in range(3)]
    files = {"source": RED, "target": BLUE}
    for kind, content in files.items():
        (folder / f"{kind}.png").write_bytes(content)
    told = [
        {**row, "instruction": f"make {row['id']} blue"}
        | {f"{kind}_file_name": f"{kind}.png" for kind in files}
        for row in rows
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    packed = load_samples(shard(*(one for row in rows for one in sample(row["id"], **row))))
    for ours, theirs in zip(packed, load_samples(folder), strict=True):
        for name in ("id", "instruction", "region_text", "split"):
            assert getattr(ours, name) == getattr(theirs, name)
        assert ours.load_source().tobytes() == theirs.load_source().tobytes()
        assert ours.load_target().tobytes() == theirs.load_target().tobytes()
        assert (ours.load_mask() == theirs.load_mask()).all()
    assert packed.row_count == packed.known_count == 3
    assert len(list(packed.narrowed("val", 2))) == 2
    assert packed.narrowed("val").known_count is None


def test_data_is_a_shard_a_folder_of_shards_or_a_pattern(shard, tmp_path, monkeypatch):
    for number in range(12):
        shard(*sample(f"s{number:02d}"), name=f"train-{number:04d}.tar")
    whole = [f"s{number:02d}" for number in range(12)]
    assert read(load_samples(tmp_path)) == (whole, {})
    assert read(load_samples(tmp_path / "train-{0000..0011}.tar")) == (whole, {})
    assert read(load_samples(f"{tmp_path}/train-00*.tar")) == (whole, {})
    assert read(load_samples(tmp_path / "train-00{01,1?}.tar")) == (["s01", "s10", "s11"], {})
    assert read(load_samples(f"file://{tmp_path}/train-0007.tar")) == (["s07"], {})
    monkeypatch.chdir(tmp_path)
    assert read(load_samples("train-{0008..0009}.tar")) == (["s08", "s09"], {})
    with pytest.raises(RicError, match=r"train-0012.tar' does not exist"):
        load_samples(tmp_path / "train-{0010..0012}.tar")


def test_braces_stand_for_what_a_shell_takes_them_for():
    assert _expanded("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert _expanded("{x,y}{1..2}.tar") == ["x1.tar", "x2.tar", "y1.tar", "y2.tar"]
    assert _expanded("a{b}.tar") == ["a{b}.tar"]
    with pytest.raises(RicError, match="more than 100,000 shards"):
        _expanded("{0..999999}{0..999999}.tar")


def test_an_address_is_read_as_a_disk_is(store, tmp_path):
    for name, key in (("train-0.tar", "a"), ("test-0.tar", "b")):
        content = tar_of([*sample(f"{key}0"), *sample(f"{key}1")])
        store.pipe_file(f"/bucket/data/{name}", content)
        (tmp_path / name).write_bytes(content)
    here = load_samples(tmp_path)
    told = [(one.id, one.split) for one in here]
    assert told == [("b0", "test"), ("b1", "test"), ("a0", "train"), ("a1", "train")]
    for name in ("data", "data/*.tar", "data/{test,train}-0.tar"):
        there = load_samples(f"memory://bucket/{name}")
        assert [(one.id, one.split) for one in there] == told
        assert there.fingerprint == here.fingerprint
        assert there.row_count is None
        assert there.kind == "shards"
        assert tables_state(there)
    for name in ("nothing*.tar", "nothing-{0..3}.tar"):
        with pytest.raises(RicError, match="nothing"):
            load_samples(f"memory://bucket/data/{name}")


def test_texts_are_members_too_and_other_names_are_mapped(shard):
    first = [("0.input.jpg", RED), ("0.edited.webp", BLUE), ("0.txt", b"mache es blau\n")]
    second = [("1.input.jpg", RED), ("1.say.txt", b"be blue"), ("1.json", b'{"where": "left"}')]
    file = shard(*first, *second)
    columns = "source=input,target=edited,region_text=where"
    plain, other = load_samples(file, columns=columns, need_instruction=False)
    assert (plain.instruction, plain.has_target) == ("mache es blau", True)
    assert (other.region_text, other.has_target) == ("left", False)
    ids, bad = read(load_samples(file, columns="source=input,instruction=say"))
    assert ids == ["1"]
    assert bad == {"0": "It has no instruction. Add say in " + str(file) + "."}
    with pytest.raises(RicError, match="no 'source'") as caught:
        load_samples(file)
    assert "input, edited, txt, where, say" in caught.value.hint


def test_keys_are_those_of_webdataset(shard):
    names = ("./x/0.b.source.png", "x.y/1.source.png", "2.SOURCE.PNG")
    others = [("README", b"?"), ("x/.DS_Store", b"?"), ("._2.source.png", b"?")]
    file = shard((of_kind("x", tarfile.DIRTYPE), b""), *((name, RED) for name in names), *others)
    samples = load_samples(file, columns="source=source", need_instruction=False)
    ids, bad = read(samples)
    assert ids == ["x.y_1", "2"]
    assert list(bad) == ["x_0"]  # whose ending is b.source.png


def a_link(name: str, target: str = "/etc/hostname") -> tuple[tarfile.TarInfo, bytes]:
    return of_kind(name, tarfile.SYMTYPE, target), b""


BAD = {
    "a link": ([a_link("1.source.png")], "is a link"),
    "a hard link": ([(of_kind("1.source.png", tarfile.LNKTYPE, "0.source.png"), b"")], "a link"),
    "a device": ([(of_kind("1.source.png", tarfile.CHRTYPE), b"")], "not a plain file"),
    "a pipe": ([(of_kind("1.source.png", tarfile.FIFOTYPE), b"")], "not a plain file"),
    "a member twice": ([*sample("1"), ("1.source.png", RED)], "there twice"),
    "two pictures": ([*sample("1"), ("1.source.jpg", RED)], "two members for 'source'"),
    "a path above": (sample("../../1"), "leaves the shard"),
    "a root path": (sample("/tmp/1"), "leaves the shard"),
    "no source": (sample("1")[1:], "no source picture"),
    "an empty source": ([("1.source.png", b""), ("1.txt", b"x")], "no source picture"),
    "broken json": ([("1.source.png", RED), ("1.json", b"{")], "json is not JSON"),
    "a json list": ([("1.source.png", RED), ("1.json", b"[]")], "not a JSON object"),
    "a text": ([("1.source.png", RED), ("1.txt", b"\xff")], "not UTF-8"),
    "a path in json": (sample("1", mask="/etc/hostname"), "not a picture in the shard"),
    "a control character": (sample("1\x1b[2J"), "control characters"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_member_costs_its_own_sample(kind, shard):
    members, reason = BAD[kind]
    ids, bad = read(load_samples(shard(*sample("0"), *members, *sample("2"))))
    assert ids == ["0", "2"]
    ((name, said),) = bad.items()
    assert reason in said
    assert name.isprintable()


def test_a_key_that_comes_again_later_is_a_failure_of_its_place(shard):
    shard(*sample("0"), *sample("1"), *sample("0"))
    ids, bad = read(load_samples(shard(*sample("1"), name="b.tar").parent))
    assert ids == ["0", "1"]
    assert list(bad) == ["a.tar:0", "b.tar:1"]
    assert all("used twice" in said for said in bad.values())


def test_a_huge_member_is_passed_over_unread(tmp_path):
    file, huge = tmp_path / "a.tar", tarfile.TarInfo("1.source.png")
    huge.size = 1 << 30
    with file.open("wb") as stream:
        stream.write(without_end(tar_of(sample("0"))) + huge.tobuf())
        stream.seek(1 << 30, os.SEEK_CUR)  # a hole
        stream.write(tar_of(sample("2")))
    ids, bad = read(load_samples(file))
    assert ids == ["0", "2"]
    assert bad == {"a.tar:1": "Its source.png has 1024 MB, over the limit of 512."}


@pytest.mark.parametrize("place", ["disk", "address"])
def test_a_shard_that_is_cut_anywhere_is_told_and_never_shorter_without_a_word(
    place, tmp_path, store
):
    whole = tar_of([*sample("0"), *sample("1")])
    size = len(without_end(whole))
    for cut in (0, 1, 511, 512, 700, size // 2 // 512 * 512, size - 600, size):
        (tmp_path / "a.tar").write_bytes(whole[:cut])
        store.pipe_file("/bucket/a.tar", whole[:cut])
        name = tmp_path / "a.tar" if place == "disk" else "memory://bucket/a.tar"
        with pytest.raises(RicError, match=r"a\.tar' cannot be read as a tar") as caught:
            list(load_samples(name))
        assert "\n" not in caught.value.message


def crafted(**header: object) -> bytes:
    """A tar whose second sample has a header of one's own."""
    info = tarfile.TarInfo("1.source.png")
    info.size = len(RED)
    for name, value in header.items():
        setattr(info, name, value)
    return (
        without_end(tar_of(sample("0")))
        + info.tobuf(tarfile.PAX_FORMAT)
        + RED
        + bytes(-len(RED) % 512 + 1024)
    )


@pytest.mark.parametrize(
    "content",
    [
        crafted(pax_headers={"size": "-1024"}),
        crafted(type=tarfile.GNUTYPE_LONGNAME, size=1 << 33),
        crafted(type=tarfile.XHDTYPE, size=1 << 33),
        crafted()[:-2000] + b"damage" + crafted()[-1994:],
        tar_of(sample("0"))[:7] + b"\xff" * 40 + tar_of(sample("0"))[47:],
        b"\x1f\x8b" + bytes(600),
        b"<html>not found</html>" * 100,
    ],
    ids=["backwards", "a long name", "pax", "checksum", "the first header", "gzip", "a page"],
)
def test_a_crafted_shard_ends_in_one_line(content, tmp_path):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(RicError, match="cannot be read as a tar"):
        list(load_samples(tmp_path / "a.tar"))


def test_shards_that_are_written_anew_have_another_fingerprint_and_state(shard):
    file = shard(*sample("0"))
    first = load_samples(file)
    fingerprint, state = first.fingerprint, tables_state(first)
    assert load_samples(file).fingerprint == fingerprint
    shard(*sample("1"))
    assert load_samples(file).fingerprint != fingerprint
    assert tables_state(load_samples(file)) != state


def test_what_webdataset_writes_is_read(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number in range(3):
            told = {"instruction": f"number {number}", "split": "train"}
            writer.write(
                {"__key__": f"x/{number}", "source.png": RED, "target.png": BLUE, "json": told}
            )
    ours = list(load_samples(tmp_path))
    theirs = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [one.id for one in ours] == [one["__key__"].replace("/", "_") for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.pictures.source == other["source.png"]
        assert one.pictures.target == other["target.png"]
        assert one.instruction == json.loads(other["json"])["instruction"]
