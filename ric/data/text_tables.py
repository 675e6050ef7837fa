"""Rows of JSON lines and CSV in UTF-8, or in UTF-16 or UTF-32 recognised by the first bytes.

A row with other bytes is reported with its line number; no other encoding is guessed.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from ric.data.open_file import open_bytes
from ric.errors import RicError
from ric.lfs_pointer import LFS_POINTER, NO_CONTENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ric.data.columns import Row

LONGEST_LINE = 64 << 20  # letters
LONGEST_TEXT = 1 << 20  # letters
AS_UTF8 = "Save it as UTF-8: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"

# UTF-32's marks begin like UTF-16's, so they are checked first
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def json_rows(path: str | Path) -> Iterator[tuple[int, Row | str]]:
    """Yield (line number, row) of JSON lines; a bad row is a str that says what is wrong.

    Raises:
        RicError: The file cannot be read.
    """
    with _text(path, newline="\n") as stream:
        for number, line in enumerate(_lines(stream, path), start=1):
            if not line.strip():
                continue
            if fault := _not_utf8(line):
                yield number, f"Line {number} is not UTF-8: {fault}."
                continue
            row = row_of_json(line)
            yield number, f"Line {number} {row}" if isinstance(row, str) else row


def row_of_json(text: str) -> Row | str:
    """Read a JSON object as a row, or say what is wrong with it in the rest of a sentence."""
    try:
        row = json.loads(text, object_pairs_hook=with_each_key_once)
    except KeyTwiceError as error:
        return f"has {error} twice."
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}."
    return row if isinstance(row, dict) else f"is not a JSON object but a {type(row).__name__}."


class KeyTwiceError(Exception):
    """An object names a key twice, of which Python's reader would silently take the last."""


def with_each_key_once(pairs: list[tuple[str, object]]) -> Row:
    """Make an object of JSON's pairs, for `json.loads` (raises KeyTwiceError)."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise KeyTwiceError(repr(next(name for name, count in names.items() if count > 1)))
    return row


def csv_rows(path: str | Path) -> Iterator[tuple[int, Row | str]]:
    """Yield (line number, row) of a CSV; a bad row is a str that says what is wrong.

    Raises:
        RicError: The file cannot be read, or is not a CSV.
    """
    with _csv(path) as reader:
        for row in reader:
            number = reader.line_num
            faults = (_not_utf8(cell) for cell in row.values() if isinstance(cell, str))
            if None in row:
                yield number, f"Line {number} has more cells than columns."
            elif fault := next(filter(None, faults), None):
                yield number, f"Line {number} is not UTF-8: {fault}."
            else:
                yield number, cast("Row", row)


def text_lines(path: str | Path) -> Iterator[str]:
    """Yield a text file's lines, without the spaces around them.

    Raises:
        RicError: The file cannot be read, or a line is not UTF-8.
    """
    with _text(path, newline=None) as stream:
        for number, line in enumerate(_lines(stream, path), start=1):
            if fault := _not_utf8(line):
                raise RicError(f"'{path}', line {number}, is not UTF-8: {fault}.", AS_UTF8)
            yield line.strip()


def csv_columns(path: str | Path) -> list[str]:
    """Read the column names of a CSV.

    Raises:
        RicError: As `csv_rows`.
    """
    with _csv(path) as reader:
        return list(reader.fieldnames or ())


def whole_text(path: str | Path) -> str:
    """Read a text file, such as a prompt.

    Raises:
        RicError: The file cannot be read, is too long for one text, or is not UTF-8.
    """
    with _text(path, newline=None) as stream:
        text = stream.read(LONGEST_TEXT + 1)
    if len(text) > LONGEST_TEXT:
        raise RicError(f"'{path}' has over {LONGEST_TEXT >> 20} million letters.")
    if fault := _not_utf8(text):
        raise RicError(f"'{path}' is not UTF-8: {fault}.", AS_UTF8)
    return text


def in_words(columns: list[str]) -> str:
    """List a table's columns; for a single one, name the separator it seems to hold."""
    if len(columns) == 1:
        for mark, name in _SEPARATORS.items():
            if mark in columns[0]:
                return f"{columns[0]!r}, one column: separate cells by commas, not {name}"
    return ", ".join(columns) or "none"


@contextmanager
def _csv(path: str | Path) -> Iterator[csv.DictReader[str]]:
    with _text(path, newline="") as stream:
        # strict: a quote that is never closed would take all that follows into its cell
        reader = csv.DictReader(_lines(stream, path), strict=True)
        try:
            names = Counter(reader.fieldnames or ())
            if twice := [name for name, count in names.items() if name and count > 1]:
                raise RicError(f"'{path}' has two columns {twice[0]!r}.", "Leave one of them.")
            if fault := next(filter(None, map(_not_utf8, reader.fieldnames or ())), None):
                raise RicError(f"'{path}', line 1, is not UTF-8: {fault}.", AS_UTF8)
            yield reader
        except csv.Error as error:
            raise RicError(f"'{path}', line {reader.reader.line_num}: {error}.") from None


@contextmanager
def _text(path: str | Path, newline: str | None) -> Iterator[io.TextIOWrapper]:
    """Open a text file in its encoding; bytes that are not UTF-8 become surrogates."""
    with open_bytes(path) as stream:
        buffered = io.BufferedReader(stream)  # type: ignore[type-var]
        head = buffered.peek(len(LFS_POINTER))
        if head.startswith(LFS_POINTER):
            raise RicError(f"'{path}' {NO_CONTENT}.")
        encoding = next((_MARKS[mark] for mark in _MARKS if head.startswith(mark)), "utf-8")
        if b"\0" in head[:2]:  # no row begins with NUL: this is UTF-16 without a mark
            encoding = "utf-16-be" if head[0] == 0 else "utf-16-le"
        escape = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        text = io.TextIOWrapper(buffered, encoding, errors=escape, newline=newline)
        try:
            yield text
        except UnicodeDecodeError as error:
            raise RicError(f"'{path}' is not {encoding.upper()}: {error.reason}.") from None


def _lines(stream: io.TextIOWrapper, path: str | Path) -> Iterator[str]:
    """Yield a text's lines, held to a length that fits into memory (Raises RicError)."""
    for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), ""), start=1):
        if len(line) == LONGEST_LINE and not line.endswith("\n"):
            raise RicError(
                f"'{path}', line {number}, has over {LONGEST_LINE >> 20} million letters.",
                "Write a line for each row, with no pictures in it.",
            )
        yield line


def _not_utf8(text: str) -> str | None:
    """Say which bytes of a line are not UTF-8; None where all are."""
    if text.isascii():
        return None
    data = text.encode("utf-8", "surrogateescape")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        near = data[max(0, error.start - 12) : error.start + 12].decode("cp1252", "replace")
        return f"byte 0x{data[error.start]:02X}, which Windows-1252 reads as in {near!r}"
    return None
