"""Texts about DATA's samples: those of a describe run, or of a folder or table made elsewhere."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ric.config import TEXT_COLUMNS
from ric.data.names import nfc
from ric.data.text_tables import csv_columns, csv_rows, in_words, json_rows, whole_text
from ric.errors import RicError, SampleError
from ric.runs.record import read_record, resolved_run, status_of
from ric.runs.rows import read_rows
from ric.runs.strays import refuse_links_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from ric.data.sample import Samples
    from ric.runs.run import RunDir

# what a training reads, and the kind of text that `ric describe` writes it as
WRITTEN_BY = {"scene_text": "scene", "region_text": "region"}
OF_EITHER = ("scene_text", "region_text")  # about the source, with `ric describe --image source`
JSON_LINES = (".jsonl", ".ndjson")
MAY_BE = (
    "--descriptions is a describe run, a folder of ID.txt, or a .jsonl or .csv with the columns id"
    " and scene_text (or text), region_text. List the runs: ric runs ls"
)


@dataclass(frozen=True)
class Descriptions:
    """Texts about samples, by column and id.

    Attributes:
        origin: The run, folder or table that holds them.
        texts: `texts["scene_text"]["0041"]`; a column that has no text is left out.
    """

    origin: Path
    texts: dict[str, dict[str, str]]

    def source_of(self, column: str) -> TextSource | None:
        """Tell where the texts of a column come from; None where there are none."""
        if column not in self.texts:
            return None
        is_run = (self.origin / "run.json").is_file()
        identity = str(self.origin.resolve()) if is_run else _fingerprint(self.texts[column])
        return TextSource(str(self.origin), identity)


class TextSource(NamedTuple):
    """Where a training took the texts of one column from.

    Attributes:
        name: The run, folder or table, as a message shows it.
        identity: Equal for the same texts: the run's path, or the fingerprint of the column's texts
            in a folder or table, by whatever name and beside whatever other columns.
    """

    name: str
    identity: str


def read_descriptions(
    reference: str | None,
    samples: Samples,
    run: RunDir,
    columns: tuple[str, ...] = tuple(WRITTEN_BY),
) -> Descriptions | None:
    """Read the texts that `--descriptions` names; None if nothing is named.

    Rows of a table, and files of a folder, that cannot be used become failures of `run`. Scenes and
    regions of a run over the sources (`--image source`) tell nothing of the targets and are not
    read.

    Args:
        reference: A describe run, a folder of texts each named by its sample's id, or a table.
        samples: DATA; at least one of its samples must have a text.
        run: The run that reads them: its record notes what they were.
        columns: Those that it makes use of; one of them must have texts.

    Raises:
        RicError: the reference is none of these, the run is not finished, there are no texts, none
            of them belongs to DATA, or they have changed since `run` began.
    """
    if reference is None:
        return None
    path, found = _load(reference, run)
    ids = {name for column in columns for name in found.get(column, ())}
    if not ids:
        kinds = " or ".join(WRITTEN_BY[column] for column in columns)
        about = " about the target (--image source)" if is_of_sources(path) else ""
        raise RicError(
            f"{path} has no {' and no '.join(columns)}{about}.",
            f"Write them: ric describe DATA --what {kinds}",
        )
    # all splits: finding a sample's split may need decoding it
    everything = samples.narrowed("all", on_failure=lambda error: None)
    if not any(sample.id in ids for sample in everything):
        raise RicError(
            f"{path} describes no sample of {samples.name}: none of its {len(ids)} ids match.",
            f"Describe these samples: ric describe {samples.name}",
        )
    if (path / "run.json").is_file():
        run.add_parent(path)
    else:
        _note(path, found, run)
    return Descriptions(path, found)


def recorded_text_source(path: Path, record: Mapping[str, Any], column: str) -> TextSource | None:
    """Tell where the fit in `path` took a column's texts from; None for the data's own."""
    named = record["config"].get("descriptions")
    if named is None:
        return None
    if texts := record.get("descriptions"):
        of_column = texts.get("columns", {}).get(column, texts["fingerprint"])
        return TextSource(texts["name"], of_column)
    found = str((resolved_run(path, record, named) or Path(named)).resolve())
    return TextSource(found, found)


def _load(reference: str, run: RunDir) -> tuple[Path, dict[str, dict[str, str]]]:
    """Return what a reference names and its texts by column and id (raises RicError)."""
    found: dict[str, dict[str, str]] = {}
    path = run.resolve(reference)
    if path is None:
        path = Path(reference)
        refuse_other_texts(path)
        for name, column, text in _texts_in(path, run.fail):
            found.setdefault(column, {})[name] = text
        return path, found
    for row in rows_of_run(path):
        for column in TEXT_COLUMNS:
            if isinstance(said := row.get(column), str):
                found.setdefault(column, {})[nfc(str(row["id"]))] = said
    return path, found


def is_of_sources(path: Path) -> bool:
    """Tell whether a describe run's scenes and regions are of the sources, not of the targets."""
    if not (path / "run.json").is_file():
        return False
    return bool(read_record(path)["config"].get("image") == "source")


def refuse_other_texts(path: Path) -> None:
    """Refuse what is neither a folder of texts nor a table of them; read no more than a header.

    Raises:
        RicError: says what `--descriptions` may be.
    """
    if path.is_dir():
        if next(path.glob("*.txt"), None) is None:
            raise RicError(f"{path} is neither a run nor a folder of .txt files.", MAY_BE)
    elif not path.is_file():
        raise RicError(f"No run at {str(path)!r}.", MAY_BE)
    elif path.suffix.lower() not in (*JSON_LINES, ".csv"):
        raise RicError(f"{path} is neither a .jsonl nor a .csv.", MAY_BE)
    elif path.suffix.lower() == ".csv":
        columns = csv_columns(path)
        if "id" not in columns or not {"text", *TEXT_COLUMNS} & set(columns):
            raise RicError(f"{path} has the columns {in_words(columns)}.", MAY_BE)


def rows_of_run(path: Path, wanted: str = "descriptions") -> Iterator[dict[str, object]]:
    """Yield the rows of a finished describe run; without scenes and regions of the sources.

    Args:
        path: The run.
        wanted: What may be missing from one that is not finished.

    Raises:
        RicError: it is not finished, or has a link out of it.
    """
    record = read_record(path)
    if record["status"] != "done":
        raise RicError(
            f"{path} is not finished ({status_of(record, path)}): {wanted} may be missing.",
            f"Finish it by repeating its command with --run {path}",
        )
    refuse_links_out(path)
    left_out = OF_EITHER if record["config"].get("image") == "source" else ()
    for row in read_rows(path, "descriptions"):
        yield {key: value for key, value in row.items() if key not in left_out}


def _texts_in(
    path: Path, on_failure: Callable[[SampleError], None]
) -> Iterator[tuple[str, str, str]]:
    """Yield (id, column, text); what cannot be used is a failure."""
    seen: set[tuple[str, str]] = set()
    for label, item in _files_of(path) if path.is_dir() else _rows_of(path):
        try:
            if isinstance(item, str):
                raise SampleError(label, "texts", item)
            for name, column, text in _texts_of(label, item):
                if (name, column) in seen:
                    reason = f"{path} has two texts {column} for it; the first is taken"
                    raise SampleError(name, "texts", reason)
                seen.add((name, column))
                yield name, column, text
        except SampleError as error:
            on_failure(error)


def _files_of(folder: Path) -> Iterator[tuple[str, Mapping[str, object] | str]]:
    """Yield each text file's name with what it says, as a row; a str says why it has none."""
    for file in sorted(folder.glob("*.txt")):
        if file.name.startswith("."):
            continue
        try:
            yield file.name, {"id": file.stem, "scene_text": whole_text(file).strip()}
        except RicError as error:
            yield file.name, error.message


def _rows_of(table: Path) -> Iterator[tuple[str, Mapping[str, object] | str]]:
    rows = json_rows(table) if table.suffix.lower() in JSON_LINES else csv_rows(table)
    for number, row in rows:
        yield f"{table.name}:{number}", row


def _texts_of(label: str, row: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield the texts of a row; `text` alone is a scene_text (raises SampleError without one)."""
    name = row.get("id")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)  # JSON may write an id of digits as a number
    if not isinstance(name, str) or not name.strip():
        raise SampleError(label, "texts", "it has no id")
    name = nfc(name)
    texts = {column: row.get(column) for column in TEXT_COLUMNS}
    texts["scene_text"] = texts["scene_text"] or row.get("text")
    said = {key: text for key, text in texts.items() if isinstance(text, str) and text.strip()}
    if not said:
        raise SampleError(name, "texts", f"{label} has no text for it")
    for column, text in said.items():
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can escape half a character, which no file can hold
            reason = f"its {column} holds half a character (a lone surrogate)"
            raise SampleError(name, "texts", reason) from None
        yield name, column, text


def _note(path: Path, texts: dict[str, dict[str, str]], run: RunDir) -> None:
    """Record which texts were read (raises RicError if an earlier attempt read others)."""
    fingerprint = _fingerprint(texts)
    known = run.record.get("descriptions", {}).get("fingerprint", fingerprint)
    if known != fingerprint:
        raise RicError(
            f"The texts in {path} have changed since this run began.",
            "Use a new run (omit --run), or restore the texts.",
        )
    columns = {column: _fingerprint(of_column) for column, of_column in texts.items()}
    run.note(descriptions={"name": str(path), "fingerprint": fingerprint, "columns": columns})


def _fingerprint(texts: Mapping[str, object]) -> str:
    content = json.dumps(texts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()
