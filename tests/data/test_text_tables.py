from __future__ import annotations

import json

import pytest

from ric.data.loose import read_texts
from ric.data.sample import load_samples
from ric.errors import RicError, SampleError

ROWS = [
    {"id": "a", "source_file_name": "source/0.png", "instruction": "un café, noir"},
    {"id": "b", "source_file_name": "source/1.png", "instruction": "塗る"},
]
CSV = "id,source_file_name,instruction\n" + "".join(
    f'{row["id"]},{row["source_file_name"]},"{row["instruction"]}"\n' for row in ROWS
)
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.fixture
def table(edits):
    """A folder whose metadata is the given bytes."""

    def make(name: str, data: bytes):
        folder = edits({}, {})
        (folder / "metadata.jsonl").unlink()
        (folder / name).write_bytes(data)
        return folder

    return make


def texts_of(folder, failures=None) -> list[str]:
    heard = None if failures is None else failures.append
    return [sample.instruction for sample in load_samples(folder).reporting(heard)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(("name", "text"), [("metadata.csv", CSV), ("metadata.jsonl", JSONL)])
def test_tables_in_utf8_and_utf16_read_the_same(table, name, text, encoding):
    assert texts_of(table(name, text.encode(encoding))) == [row["instruction"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "text", "line"), [("metadata.csv", CSV, 2), ("metadata.jsonl", JSONL, 1)]
)
def test_a_row_in_another_encoding_is_a_failure_and_never_other_letters(table, name, text, line):
    data = text.encode().replace("café".encode(), "café".encode("cp1252"))
    failures: list[SampleError] = []
    assert texts_of(table(name, data), failures) == [ROWS[1]["instruction"]]
    (failed,) = failures
    assert failed.sample_id == f"{name}:{line}"
    assert failed.reason.startswith(
        f"Line {line} is not UTF-8: byte 0xE9, which Windows-1252 reads as in "
    )
    assert "café" in failed.reason


def test_a_row_that_names_a_key_twice_is_a_failure_and_never_one_of_the_two(table):
    twice = JSONL.replace('"id": "a"', '"instruction": "tea", "id": "a"')
    failures: list[SampleError] = []
    assert texts_of(table("metadata.jsonl", twice.encode()), failures) == [ROWS[1]["instruction"]]
    (failed,) = failures
    assert (failed.sample_id, failed.reason) == (
        "metadata.jsonl:1",
        "Line 1 has 'instruction' twice.",
    )


def test_column_names_in_another_encoding_end_the_command_with_the_way_out(table):
    folder = table("metadata.csv", "id,source_file_name,instruction,größe\n".encode("cp1252"))
    with pytest.raises(RicError, match=r"metadata.csv', line 1, is not UTF-8: byte 0xF6") as caught:
        load_samples(folder)
    assert "größe" in caught.value.message
    assert "iconv -f WINDOWS-1252 -t UTF-8" in str(caught.value.hint)


def test_half_a_letter_of_utf16_ends_the_command(table):
    folder = table("metadata.csv", CSV.encode("utf-16")[:-1])
    with pytest.raises(RicError, match=r"metadata.csv' is not UTF-16: "):
        texts_of(folder)


@pytest.mark.parametrize(
    ("mark", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", None)]
)
def test_a_table_without_a_source_column_says_which_it_has(table, mark, name):
    data = mark.join(["id", "picture", "instruction"]) + "\n" + mark.join("abc") + "\n"
    with pytest.raises(RicError, match="has no column 'source_file_name'") as caught:
        load_samples(table("metadata.csv", data.encode())).reporting(lambda _: None)
    joined = mark.join(["id", "picture", "instruction"])
    assert caught.value.hint == (
        f"Its columns: {joined!r}, one column: separate cells by commas, not {name}."
        if name
        else "Its columns: id, picture, instruction."
    )


def test_json_rows_without_a_source_column_say_which_there_are(table):
    rows = [{"id": "a", "image": "source/0.png"}, {"id": "b", "text": "x"}]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with pytest.raises(RicError, match="has no column 'source_file_name'") as caught:
        load_samples(table("metadata.jsonl", data)).reporting(lambda _: None)
    assert caught.value.hint == "Its columns: id, image, text."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CSV.replace("noir", '"noir'), r"metadata.csv', line 2: "),
        (CSV.replace('noir"', "noir"), r"metadata.csv', line 3: "),
        (CSV.replace('る"', "る"), r"metadata.csv', line 3: unexpected end of data"),
        (CSV.replace("id,", "id,instruction,"), r"has two columns 'instruction'\."),
    ],
)
def test_a_quote_out_of_place_or_a_column_twice_loses_no_row_without_a_word(table, text, words):
    """Read leniently, a quote that is never closed takes all rows that follow into its cell."""
    folder = table("metadata.csv", text.encode())
    with pytest.raises(RicError, match=words):
        list(load_samples(folder).reporting(lambda _: None))


def read(path):
    return read_texts(path, lambda line: None)


def test_texts_of_loose_pictures_are_read_as_strictly(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("id;instruction\ndog;sit\n")
    with pytest.raises(RicError, match="one column: separate cells by commas, not semicolons"):
        read(path)
    path.write_bytes("id,instruction\ndog,sit\ncat,trink café\n".encode("cp1252"))
    with pytest.raises(RicError, match=r"cannot be used. Line 3 is not UTF-8: byte 0xE9"):
        read(path)
    path.write_text("id,instruction\ndog,sit, please\n")
    with pytest.raises(RicError, match=r"cannot be used. Line 2 has more cells than columns"):
        read(path)
    path.write_text("id,instruction\ndog,trink café\n", encoding="utf-16")
    assert read(path) == {"dog": {"instruction": "trink café"}}
