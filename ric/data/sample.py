"""DATA of any kind as samples that can be iterated over repeatedly."""

from __future__ import annotations

import hashlib
import os
from copy import copy
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ric.config import EvalConfig
from ric.data.arrow_rows import count_rows, table_names
from ric.data.benchmarks.samples import benchmark_hash, columns_of, read_benchmark
from ric.data.benchmarks.table import BENCHMARKS, find_benchmark
from ric.data.columns import Columns, ReadOptions, parse_columns
from ric.data.edit_sample import EditSample, Pictures
from ric.data.file_state import file_state
from ric.data.folder import (
    COLUMNS,
    METADATA,
    find_metadata,
    metadata_hash,
    read_folder,
    require_columns_met,
)
from ric.data.hub import cached_metadata, is_hub_id, open_hub
from ric.data.images import MAX_PIXELS
from ric.data.known_tables import KNOWN_TABLES, choose_columns
from ric.data.list_cells import EVERY, RANDOM, has_pick
from ric.data.loose import read_texts
from ric.data.loose_samples import LooseFolders
from ric.data.open_file import as_local, is_url, why_no_file
from ric.data.parquet_rows import find_remote_tables, find_tables, read_tables, tables_hash
from ric.data.seen_ids import SeenIds
from ric.data.shards import (
    count_shards,
    find_shards,
    names_shards,
    read_shards,
    shard_columns,
)
from ric.errors import RicError, SampleError
from ric.splits import Split, split_of

SplitChoice = Literal["train", "val", "test", "all"]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ric.config import CommandConfig
    from ric.data.benchmarks.table import Benchmark

    Rows = Callable[[SplitChoice], Iterator[EditSample | SampleError]]

__all__ = ["EditSample", "Pictures", "Samples", "load_samples", "samples_of"]

Kind = Literal["folder", "parquet", "shards", "hub", "scenes", "benchmark", "loose"]

DATA_MAY_BE = (
    "DATA is a folder with metadata.jsonl (made by: ric data OUT --source DIR), a folder or file of"
    " parquet or of WebDataset's tar, a hub id such as BryanW/HumanEdit, drawn scenes such as"
    " scenes:300@64#7, or a benchmark in its own layout, NAME:DIR with one of"
    f" {', '.join(BENCHMARKS)}."
)


class PicturesNeededError(Exception):
    """Something about samples cannot be told without reading their pictures."""


class Samples:
    """A data set's samples; every `for` reads the rows anew and holds one at a time.

    Attributes:
        name: DATA as the user wrote it.
        kind: `folder`, `parquet`, `shards`, `hub`, `scenes`, `benchmark` or `loose`.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        name: str,
        kind: Kind,
        fingerprint: Callable[[], str],
        count: Callable[[], int | None] = lambda: None,
        ids: Callable[[SplitChoice], Iterator[str]] | None = None,
        limit: int | None = None,
    ) -> None:
        """Store how to read the rows; use `load_samples` to make one."""
        self.name = name
        self.kind = kind
        self._rows = rows
        self._fingerprint = cache(fingerprint)
        self._count = count
        self._ids = ids
        self._split: SplitChoice = "all"
        self._limit = limit
        self._on_failure: Callable[[SampleError], None] | None = None
        self._known_splits = _KnownSplits()

    def __iter__(self) -> Iterator[EditSample]:
        """Yield the samples of the split, at most `limit`.

        Raises:
            SampleError: A row cannot be a sample, and there is no `on_failure`.
            RicError: The data as a whole cannot be read.
        """
        return islice(self._all_of_split(self._on_failure), self._limit)

    def glance(
        self, on_failure: Callable[[SampleError], None] = lambda error: None
    ) -> Iterator[EditSample]:
        """Yield the same samples for a look ahead, without reporting failures twice.

        Args:
            on_failure: Called with the error of each bad row, in place of the usual callback.

        Raises:
            RicError: The data as a whole cannot be read.
        """
        return islice(self._all_of_split(on_failure), self._limit)

    def narrowed(
        self,
        split: SplitChoice,
        limit: int | None = None,
        on_failure: Callable[[SampleError], None] | None = None,
    ) -> Samples:
        """Return a split of the same data, without opening it again.

        Args:
            split: `train`, `val`, `test` or `all`.
            limit: At most this many of the split.
            on_failure: Called with the error of each bad row; without it the error is raised.

        Raises:
            RicError: There is no such split, or the limit is negative.
        """
        if split not in get_args(SplitChoice):
            raise RicError(f"Unknown split {split!r}.", "Choose one of: train, val, test, all.")
        if limit is not None and limit < 0:
            raise RicError(f"The limit is {limit}; it must be 0 or more.")
        other = copy(self)  # shares the fingerprint and the rows' splits: each is found once
        other._split, other._limit, other._on_failure = split, limit, on_failure
        return other

    def reporting(self, on_failure: Callable[[SampleError], None]) -> Samples:
        """Return the same samples, with each bad row's error passed to `on_failure`."""
        other = copy(self)
        other._on_failure = on_failure
        return other

    def with_texts(self, texts: Path) -> Samples:
        """Return the samples with texts of a file in place of their own, by id.

        Raises:
            RicError: As `read_texts`.
        """
        words: Mapping[str, Mapping[str, Any]] = read_texts(texts, lambda line: None)
        ours = self._fingerprint

        def fingerprint() -> str:
            return hashlib.sha256(f"{ours()}{words}".encode()).hexdigest()

        other = self._with_rows(lambda item: replace(item, **words.get(item.id, {})))
        other._fingerprint = cache(fingerprint)
        return other

    def final_turns(self) -> Samples:
        """Return the last turn of each photo, with the source of the first, in the rows' order.

        That source is what an editor began with that made all turns, each from its own output of
        the one before. The mask of the last turn alone says nothing of it, so it is left out. The
        rows are read once more; samples without `group_id` are photos of their own. A limit counts
        photos. Where the row of a photo's last turn is bad, that row is its failure; where that of
        its first is, its last turn becomes one.
        """
        last: dict[str, str | None] = {}
        begun_badly: dict[str, str] = {}  # photos whose first row is bad, by the name of that row

        def lose(error: SampleError) -> None:
            if error.group is not None:
                if error.group not in last:
                    begun_badly[error.group] = error.sample_id
                last[error.group] = None

        for sample in self.narrowed(self._split).glance(lose):  # a limit would cut a photo's turns
            last[sample.group_id or sample.id] = sample.id
        begun: dict[str, EditSample] = {}  # the first turns of photos whose last is still to come

        def final(turn: EditSample) -> EditSample | SampleError | None:
            photo = turn.group_id or turn.id
            first = begun.setdefault(photo, turn)
            if turn.id != last.get(photo):
                return None
            del begun[photo]
            if photo in begun_badly:
                error = SampleError(
                    turn.id,
                    "source",
                    f"The row of its photo's first turn, {begun_badly[photo]!r}, cannot be used, so"
                    " what its turns began with is not known.",
                )
                error.row = turn.row
                return error
            return turn if first is turn else turn.made_from(first)

        return self._with_rows(final)

    def _with_rows(
        self, change: Callable[[EditSample], EditSample | SampleError | None]
    ) -> Samples:
        """Return the samples with each changed; None leaves one out."""
        rows = self._rows

        def changed(split: SplitChoice) -> Iterator[EditSample | SampleError]:
            for item in rows(split):
                found = item if isinstance(item, SampleError) else change(item)
                if found is not None:
                    yield found

        other = copy(self)
        other._rows, other._ids, other._known_splits = changed, None, _KnownSplits()
        return other

    @property
    def fingerprint(self) -> str:
        """SHA-256 that changes with the data's rows; computed on first access."""
        return self._fingerprint()

    @property
    def row_count(self) -> int | None:
        """Number of rows in all splits; None where it is unknown without reading pictures."""
        return self._count()

    def known_ids(self) -> Iterator[str]:
        """Yield the ids of the samples, one at a time.

        Raises:
            PicturesNeededError: That would mean reading pictures. Rows of tables hold theirs, and a
                sample without a group has its split by its source; of such data some ids may have
                been yielded before.
        """
        if self._ids is not None:
            return islice(self._ids(self._split), self._limit)
        is_table = self.kind == "benchmark" and self.row_count is None
        if is_table or self.kind in ("parquet", "shards", "hub"):
            raise PicturesNeededError
        return islice(self._ids_of_rows(), self._limit)

    def _ids_of_rows(self) -> Iterator[str]:
        seen = SeenIds()
        for item in self._rows(self._split):
            if isinstance(item, SampleError) or not seen.add(item.id):
                continue
            own = item.split or (item.group_id and split_of(item.group_id))
            if self._split != "all" and not own:
                raise PicturesNeededError
            if self._split in ("all", own):
                yield item.id

    @property
    def known_count(self) -> int | None:
        """Number of samples, those that fail included; None where that needs reading pictures."""
        if self._split == "all" and self.row_count is not None:
            return self.row_count if self._limit is None else min(self.row_count, self._limit)
        try:
            return sum(1 for _ in self.known_ids())
        except PicturesNeededError:
            return None

    def _all_of_split(
        self, on_failure: Callable[[SampleError], None] | None
    ) -> Iterator[EditSample]:
        seen = SeenIds()
        for position, item in enumerate(self._rows(self._split)):
            try:
                if isinstance(item, SampleError):
                    raise _under_its_own_id(item, seen)
                if not seen.add(item.id):
                    raise SampleError(
                        item.row or f"row {position + 1}",
                        "metadata",
                        f"Its id is used twice in {self.name}: {item.id!r}. Give each its own.",
                    )
                # for `all`, no source is decoded just to find a sample's split
                wanted = self._split == "all" or self._split == self._known_splits.of(
                    item, position
                )
            except SampleError as error:
                if on_failure is None:
                    raise
                on_failure(error)
                continue
            if wanted:
                yield item


def _under_its_own_id(error: SampleError, seen: SeenIds) -> SampleError:
    """Return the error of a row, under the row's place if another row already has its id."""
    if seen.add(error.sample_id) or error.row is None:
        return error
    reason = f"{error.reason} Its id is used twice: {error.sample_id!r}."
    return SampleError(error.row, error.stage, reason)


class _KnownSplits:
    """Splits by row number, a byte each: only the first pass has to decode pictures for them."""

    _NAMES = ("", *get_args(Split))

    def __init__(self) -> None:
        self._codes = bytearray()

    def of(self, sample: EditSample, position: int) -> str:
        if sample.split:
            return sample.split
        if sample.group_id:
            return split_of(sample.group_id)
        if position >= len(self._codes):
            self._codes.extend(bytes(position + 1 - len(self._codes)))
        if not self._codes[position]:
            self._codes[position] = self._NAMES.index(split_of(sample.group()))
        return self._NAMES[self._codes[position]]


def samples_of(
    config: CommandConfig,
    *,
    need_instruction: bool = True,
) -> Samples:
    """Open the DATA of a command, or the loose pictures that `ric eval` gets in its place.

    Args:
        config: DATA, its columns, split and limit, and the settings for every sample; loose
            pictures have no splits.
        need_instruction: As `load_samples`.

    Raises:
        RicError: As `load_samples`.
    """
    loose = loose_folders(config)
    if loose is None:
        samples = load_samples(
            config.data,
            columns=config.columns,
            max_pixels=config.max_pixels,
            ignore_signature=config.ignore_signature,
            need_instruction=need_instruction,
            seed=config.seed,
        )
        if isinstance(config, EvalConfig) and config.texts is not None:
            samples = samples.with_texts(Path(config.texts))
        narrowed = samples.narrowed(config.split, config.limit)
        is_final = isinstance(config, EvalConfig) and config.turns == "final"
        return narrowed.final_turns() if is_final else narrowed
    options = ReadOptions(
        max_pixels=config.max_pixels,
        ignore_signature=config.ignore_signature,
        need_instruction=False,
        described_in=config.data,
    )
    loose.refuse_strangers()
    count = len(loose.pairs)
    return Samples(
        lambda split: loose.read(options),
        name=config.data,
        kind="loose",
        fingerprint=loose.fingerprint,
        count=lambda: count,
        limit=config.limit,
    )


def loose_folders(config: CommandConfig) -> LooseFolders | None:
    """Return the folders of loose pictures that a command names; None where it names DATA."""
    if not isinstance(config, EvalConfig) or config.source is None:
        return None
    target, mask, texts = (
        Path(place) if place else None for place in (config.target, config.mask, config.texts)
    )
    return LooseFolders(Path(config.source), target, mask, texts)


def load_samples(
    data: str | Path,
    *,
    columns: str | None = None,
    max_pixels: int = MAX_PIXELS,
    ignore_signature: bool = False,
    need_instruction: bool = True,
    seed: int = 0,
) -> Samples:
    """Open DATA, all of its splits; no picture is decoded yet.

    Args:
        data: A folder with metadata.jsonl, .csv or .parquet, a folder or file of parquet or of
            WebDataset's tar, several of these by a pattern (`{000..099}.tar`), the fsspec URL of
            any of them, a hub id, scenes:COUNT[@SIZE][#SEED], or a benchmark, such as
            pie-bench:DIR.
        columns: `source=input_image,instruction=edit_prompt`, for data with other columns; of lists
            `instruction=prompts[0]`, `[random]`, or `[*]` for a sample of each item.
        max_pixels: A larger picture is an error and is not decoded.
        ignore_signature: Keep DALL-E's corner strip out of every mask (choice 14).
        need_instruction: A row without an instruction is a failure; otherwise it reads as "".
        seed: Draws the item of `[random]`, together with the sample's id.

    Raises:
        RicError: There is no such data, or it cannot be read.
    """
    name = str(data)
    if not name:
        raise RicError("No DATA is given.", DATA_MAY_BE)
    mapping = parse_columns(columns) if columns else None
    options = ReadOptions(
        max_pixels=max_pixels,
        ignore_signature=ignore_signature,
        need_instruction=need_instruction,
        described_in=name,
        seed=seed,
    )
    rows, kind, fingerprint, count = _open(name, mapping, options)
    if has_pick(mapping or {}, RANDOM):
        fingerprint = _seeded(fingerprint, seed)
    if has_pick(mapping or {}, EVERY) and kind != "folder":  # whose rows are read to count them
        count = _unknown
    return Samples(
        rows,
        name=name,
        kind=kind,
        fingerprint=fingerprint,
        count=count,
        ids=_ids_of_scenes(name) if kind == "scenes" else None,
    )


def _ids_of_scenes(name: str) -> Callable[[SplitChoice], Iterator[str]]:
    from ric.data.drawn_scenes import parse_scenes  # only for drawn scenes

    return parse_scenes(name).ids_of_split


def _unknown() -> None:
    """Return what the count of rows is where each gives as many samples as its list is long."""


def _seeded(fingerprint: Callable[[], str], seed: int) -> Callable[[], str]:
    return lambda: hashlib.sha256(f"{fingerprint()}{seed}".encode()).hexdigest()


_Opened = tuple["Rows", Kind, "Callable[[], str]", "Callable[[], int | None]"]


def _open(name: str, mapping: dict[str, str] | None, options: ReadOptions) -> _Opened:
    if name.startswith("scenes:"):
        return _open_scenes(name)
    if benchmark := find_benchmark(name):
        return _open_benchmark(benchmark, mapping, options)
    name = as_local(name)
    path = Path(name).expanduser()
    if names_shards(name):
        return _open_shards(find_shards(name), mapping, options)
    if is_url(name) or path.is_dir():
        address = name.rpartition("/")[0] if path.name in METADATA else name
        if metadata := find_metadata(address if is_url(name) else path):
            return _open_folder(metadata, mapping, options)
    elif path.name in METADATA and path.is_file() and (metadata := find_metadata(path.parent)):
        return _open_folder(metadata, mapping, options)
    if os.path.lexists(path):
        if not path.is_dir() and (reason := why_no_file(path)):
            raise RicError(reason, DATA_MAY_BE)
        files: Sequence[str | Path] = find_tables(path)
        if not files and (shards := find_shards(path) if path.is_dir() else []):
            return _open_shards(shards, mapping, options)
        return _open_tables(path, files, mapping, options)
    if is_url(name) and (files := find_remote_tables(name)):
        return _open_tables(name, files, mapping, options)
    if is_url(name) and (shards := find_shards(name)):
        return _open_shards(shards, mapping, options)
    if is_hub_id(name) and (metadata := cached_metadata(name)):
        return _open_folder(metadata, mapping, options)
    if is_hub_id(name) and _may_be_on_the_hub(name, mapping):
        rows, fingerprint, count = open_hub(name, mapping, options)
        return lambda split: rows(), "hub", lambda: fingerprint, lambda: count
    raise RicError(f"No data at '{name}'.", DATA_MAY_BE)


def _open_scenes(name: str) -> _Opened:
    from ric.data.drawn_scenes import parse_scenes  # only for drawn scenes

    stream = parse_scenes(name)
    # a scene's split is known before it is drawn
    return (
        stream.of_split,
        "scenes",
        lambda: stream.fingerprint,
        lambda: stream.count,
    )


def _open_benchmark(
    benchmark: Benchmark, mapping: dict[str, str] | None, options: ReadOptions
) -> _Opened:
    columns = columns_of(benchmark, mapping)

    def count() -> int | None:
        if benchmark.layout.is_table:
            return None
        return sum(1 for _ in benchmark.layout.entries(benchmark.files))

    return (
        lambda split: (told.sample for told in read_benchmark(benchmark, columns, options)),
        "benchmark",
        lambda: benchmark_hash(benchmark, columns),
        count,
    )


def _open_folder(metadata: str, mapping: dict[str, str] | None, options: ReadOptions) -> _Opened:
    columns = Columns(names={**COLUMNS.names, **mapping}) if mapping else COLUMNS
    state = file_state(metadata)[:3]  # without ctime: its rights and links may change
    require_columns_met(metadata, columns, mapping or {})
    about = ReadOptions(**{**vars(options), "described_in": metadata.rpartition("/")[2]})

    def refuse_change() -> None:
        if file_state(metadata)[:3] != state:
            raise RicError(
                f"'{metadata}' has changed while it was read.",
                "Let nothing write to it, and repeat the command.",
            )

    def fingerprint() -> str:
        plain = metadata_hash(metadata)
        refuse_change()
        return hashlib.sha256(f"{plain}{mapping}".encode()).hexdigest() if mapping else plain

    def rows() -> Iterator[EditSample | SampleError]:
        refuse_change()
        yield from read_folder(metadata, columns, about)
        # a table that was cut between two lines would lack samples without a word
        refuse_change()

    return lambda split: rows(), "folder", fingerprint, lambda: sum(1 for _ in rows())


def _open_tables(
    path: str | Path,
    files: Sequence[str | Path],
    mapping: dict[str, str] | None,
    options: ReadOptions,
) -> _Opened:
    if not files:
        is_folder = os.path.isdir(path)
        reason = "has no metadata.jsonl, .csv, .parquet or .tar" if is_folder else "is not a table"
        raise RicError(f"'{path}' {reason}.", DATA_MAY_BE)
    columns = choose_columns(mapping, table_names(files[0]), f"'{path}'")
    return (
        lambda split: read_tables(files, columns, options),
        "parquet",
        lambda: tables_hash(files, str(mapping or "")),
        lambda: count_rows(files),
    )


def _open_shards(
    shards: Sequence[str], mapping: dict[str, str] | None, options: ReadOptions
) -> _Opened:
    columns = shard_columns(mapping, shards[0])
    read = partial(
        read_shards, shards, columns, options, is_told_by_txt="instruction" not in (mapping or {})
    )
    return (
        lambda split: read(),
        "shards",
        lambda: tables_hash(shards, str(mapping or ""), both_ends=True),
        cache(lambda: count_shards(shards)),
    )


def _may_be_on_the_hub(name: str, mapping: dict[str, str] | None) -> bool:
    """Tell whether to query the hub: a mistyped folder has the form of a hub id too."""
    if name in KNOWN_TABLES:
        return True
    return mapping is not None and not Path(name.split("/")[0]).exists()
