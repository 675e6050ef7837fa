"""Scored batches on disk: an interrupted evaluation resumes, and processes share one.

`scored/KEY` in the run holds, for each batch, a JSON of rows and failures and a safetensors of
features, each picture's once however many editors were compared with it. The JSON has the batch's
number in the list of samples as its name, and names the other file. It is written last, with a
digest of both: a batch counts only when both are as they were written, and a damaged one is scored
again. The key is a hash of the state of all files read (outputs, samples and networks), so that two
states of them are never mixed. A resumed run tries batches with a failure again. Numbers are
restored to the bit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save

from ric.data.file_state import file_state
from ric.errors import SampleError
from ric.runs.rows import write_atomically, writer_name
from ric.scoring.encode_once import SetRow
from ric.scoring.kept_samples import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ric.scoring.encode_once import Vector


def stamp(file: Path | str) -> str:
    """Return a text that changes with a file's path and state, or those of a folder's files.

    A file that cannot be read has a stamp too.
    """
    place = Path(file)
    parts = sorted(place.rglob("*")) if place.is_dir() else [place]
    told = [(part.name, state) for part in parts if (state := file_state(part))]
    return repr((str(place), told))


@dataclass(frozen=True)
class ScoredBatch:
    """One batch.

    Attributes:
        ids: Its samples that were read, including those of which no editor has a picture.
        kept: What each label's suite stored of each sample.
        failures: What could not be read.
    """

    ids: list[str]
    kept: dict[str, dict[str, Kept]]
    failures: list[SampleError]

    @property
    def done(self) -> set[str]:
        """Its samples without a failure."""
        return set(self.ids) - {error.sample_id for error in self.failures}


class ScoredBatches:
    """The batches of a run, each written by one of its processes and read by all.

    Args:
        folder: Where they are.

    Attributes:
        folder: As given.
        key: Its name.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder; an earlier attempt's batches stay."""
        self.folder, self.key = folder, folder.name
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, number: int) -> bool:
        """Tell whether a batch is there and whole."""
        return _read_whole(self._file(number)) is not None

    def is_damaged(self, number: int) -> bool:
        """Tell whether a batch is there, but not as it was written."""
        return self._file(number).is_file() and not self.has(number)

    def drop_those_with_failures(self) -> None:
        """Remove batches in which something failed, so that they are tried again.

        Only where no other process is at work: it might be the one that has just written them.
        """
        for file, batch in self._whole():
            if batch["failures"]:
                file.unlink(missing_ok=True)

    def done(self) -> set[str]:
        """Return the ids of the samples in complete batches, except those that only failed."""
        done = set[str]()
        for _, batch in self._whole():
            done |= set(batch["ids"]) - {told[0] for told in batch["failures"]}
        return done

    def write(
        self,
        number: int,
        ids: Sequence[str],
        kept: Mapping[str, Mapping[str, Kept]],
        failures: Sequence[SampleError] = (),
    ) -> None:
        """Write a batch, whole or not at all, with one failure for each sample that has any."""
        vectors: dict[str, Vector] = {}
        names: dict[int, str] = {}

        def name_of(vector: Vector | None) -> str | None:
            if vector is None:
                return None
            if id(vector) not in names:
                names[id(vector)] = str(len(names))
                vectors[names[id(vector)]] = np.ascontiguousarray(vector)
            return names[id(vector)]

        # two processes may write one batch, where one was taken for dead; tensors of its own let
        # either of the two JSONs be whole
        beside = f"{number:08d}-{writer_name()}.safetensors"
        batch = {
            "tensors": beside,
            "ids": list(ids),
            "failures": _joined(failures),
            "kept": {
                label: [[one.row, _named(one.set_row, name_of)] for one in held.values()]
                for label, held in kept.items()
            },
        }
        # safetensors' own writer reports a full disk as an error of its own
        tensors = save(vectors)
        digest = _digest(batch, hashlib.sha256(tensors).hexdigest())
        write_atomically(self.folder / beside, tensors)
        write_atomically(self._file(number), json.dumps({**batch, "sha256": digest}))

    def read(self) -> Iterator[ScoredBatch]:
        """Yield every complete batch, of all processes."""
        for file, batch in self._whole():
            loaded = load_file(_tensors_of(file, batch))
            # copied: each loaded one keeps three more objects alive
            vectors: Mapping[str | None, Vector] = {name: loaded[name].copy() for name in loaded}
            kept = {
                label: {row["id"]: Kept(row, _set_row(names, vectors)) for row, names in held}
                for label, held in batch["kept"].items()
            }
            failures = [SampleError(*told) for told in batch["failures"]]
            yield ScoredBatch(batch["ids"], kept, failures)

    def _whole(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for file in sorted(self.folder.glob("*.json")):
            if (batch := _read_whole(file)) is not None:
                yield file, batch

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"


def _tensors_of(file: Path, batch: Mapping[str, Any]) -> Path:
    """Return the file of a batch's tensors; those of older versions do not name it."""
    return file.parent / Path(batch.get("tensors", f"{file.stem}.safetensors")).name


def _read_whole(file: Path) -> dict[str, Any] | None:
    """Read a batch's JSON; None where it or its tensors are not as they were written."""
    try:
        batch: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        with _tensors_of(file, batch).open("rb") as stream:
            tensors = hashlib.file_digest(stream, "sha256").hexdigest()
        is_whole = batch.pop("sha256") == _digest(batch, tensors)
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None  # JSON of another shape, or none
    return batch if is_whole else None


def _named(set_row: SetRow, name_of: Callable[[Vector | None], str | None]) -> list[Any]:
    """List the names of a sample's vectors, those of `SetRow.own` by their metrics."""
    *plain, own = set_row
    by_metric = {key: [name_of(part) for part in both] for key, both in own.items()}
    return [*(name_of(part) for part in plain), by_metric]


def _set_row(names: Sequence[Any], vectors: Mapping[str | None, Vector]) -> SetRow:
    """Return a sample's vectors by what `_named` listed.

    0.1.0 listed four names, and versions after it four more.
    """
    features, logits, target_features, is_logits = (vectors.get(name) for name in names[:4])
    own = names[4] if len(names) == 5 else {}
    if len(names) == 8:
        own = {"fd_dinov2": names[4:6], "cmmd": names[6:]}
    both = {key: (vectors.get(ours), vectors.get(theirs)) for key, (ours, theirs) in own.items()}
    return SetRow(features, logits, target_features, is_logits, both)


def _joined(failures: Sequence[SampleError]) -> list[list[str]]:
    """List id, stage and reason of each sample's failures, since a run lists one per sample."""
    of_sample: dict[str, list[SampleError]] = {}
    for error in failures:
        of_sample.setdefault(error.sample_id, []).append(error)
    return [
        [name, ", ".join(one.stage for one in some), "; ".join(one.reason for one in some)]
        for name, some in of_sample.items()
    ]


def _digest(batch: Mapping[str, Any], tensors: str) -> str:
    """Give the SHA-256 of a batch's JSON and of its tensors' digest."""
    return hashlib.sha256(f"{json.dumps(batch)}{tensors}".encode()).hexdigest()
