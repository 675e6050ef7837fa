"""Compare an edit run with its inputs: keep what is up to date, make the rest anew."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.runs.rows import merge_rows, read_lines, row_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from ric.config import CommandConfig, EditConfig
    from ric.data.edit_sample import EditSample
    from ric.data.photos import Photo
    from ric.runs.edited_pictures import EditedPictures
    from ric.runs.run import RunDir

KEPT, FAILS = "kept", "failed before and unchanged (--retry-failed tries them again)"
GONE = "no longer asked for (their edits stay)"
# what becomes of an edit, in the order in which it is told
FATES = (KEPT, "new", "changed", "deleted", "asked for again", "tried again", FAILS, GONE)


class KeptEdits:
    """A run's rows, held against what is asked for now.

    An edit is kept where its row has the digest of its present inputs and its picture is there. One
    that failed is kept as failed where its inputs have not changed, since it would fail again,
    unless `--retry-failed` asks for it.

    Args:
        config: `--redo`, `--retry-failed`, `--overwrite`.
        run: The run.
        pictures: Its pictures.
        digest: Gives the digest of an edit's inputs: pictures, texts and seed.

    Attributes:
        remade: The pictures of edits that are to be made anew, by id, as their rows named them.
    """

    def __init__(
        self,
        config: EditConfig,
        run: RunDir,
        pictures: EditedPictures,
        digest: Callable[[Photo | EditSample], str],
    ) -> None:
        """Read the run's rows; see the class."""
        self.config, self.run, self.pictures, self.digest = config, run, pictures, digest
        self._edits = {
            row["id"]: (row.get("inputs"), row["file_name"]) for row in run.rows("edits")
        }
        self._failures = {row["id"]: row.get("inputs") for row in run.rows("failures")}
        self.remade: dict[str, str] = {}

    def drop_stale_rows(self, samples: Iterable[Photo | EditSample]) -> str:
        """Drop the rows of all edits that are to be made anew; say in a line what was found.

        Nothing is said, "", of a run without rows, which another process has just begun.

        Raises:
            RicError: `--redo` names no edit, a new edit would overwrite a file that is not this
                run's, or what is asked for again was made by a process that is still at work.
                Nothing has been dropped.
        """
        has_rows = bool(self._edits or self._failures)
        fates: Counter[str] = Counter()
        stale, still_failed, new = set(), set(), []
        ids = []
        for sample in samples:
            fate = self._fate_of(sample)
            fates[fate] += 1
            if fate == FAILS:
                still_failed.add(sample.id)
            elif fate == "new":
                if self.config.out is not None:
                    new.append(sample)
            elif fate != KEPT:
                stale.add(sample.id)
                if sample.id in self._edits:
                    self.remade[sample.id] = self._edits[sample.id][1]
            if self.config.redo:
                ids.append(sample.id)
            self._edits.pop(sample.id, None)
        fates[GONE] = len(self._edits)
        self._refuse(ids, new)
        if asks_again(self.config):
            self._refuse_while_others_write(stale)
        self._drop("uploads", stale)  # first: an edit without such a row is sent
        self._drop("edits", stale)
        self._drop("failures", self._failures.keys() - still_failed)
        return ", ".join(f"{fates[fate]} {fate}" for fate in FATES if fates[fate] and has_rows)

    def _fate_of(self, sample: Photo | EditSample) -> str:
        edit = self._edits.get(sample.id)
        if edit is None and sample.id not in self._failures:
            return "new"
        if self.config.overwrite or sample.id in self.config.redo:
            return "asked for again"
        before = edit[0] if edit else self._failures[sample.id]
        # rows of earlier versions tell no inputs
        if self.digest(sample) != before and (before is not None or edit is None):
            return "changed"
        if edit is None:
            return "tried again" if self.config.retry_failed else FAILS
        return KEPT if self.pictures.path_of(edit[1]).is_file() else "deleted"

    def _refuse(self, ids: list[str], new: list[Photo | EditSample]) -> None:
        for name in self.config.redo:
            if name not in ids:
                nearest = get_close_matches(name, ids, n=1)
                meant = f"Did you mean {nearest[0]!r}? " if nearest else ""
                raise RicError(
                    f"--redo {name}: there is no such edit.",
                    f"{meant}Name an id of {self.run.path / 'edits.jsonl'}.",
                )
        # of a run that was not finished, a new edit's file may be its own, not yet in a row
        if self.config.out is not None and self.run.was_done and not self.config.overwrite:
            self.pictures.refuse_existing(new)

    def _refuse_while_others_write(self, stale: Collection[str]) -> None:
        for kind in ("edits", "failures"):
            for file in self._files(kind)[1]:
                if any(row.get("id") in stale for row in read_lines(file)):
                    raise refusal_to_join(self.run)

    def _drop(self, kind: str, stale: Collection[str]) -> None:
        """Drop rows from the files that no other process writes to."""
        if stale:
            merge_rows(self.run.path, kind, self._files(kind)[0], without=stale)

    def _files(self, kind: str) -> tuple[list[Path], list[Path]]:
        """List the files of rows that nobody else writes to, and the others."""
        writing = {f"{kind}-{writer}.jsonl" for writer in self.run.claims.others_at_work()}
        files = row_files(self.run.path, kind)
        return (
            [file for file in files if file.name not in writing],
            [file for file in files if file.name in writing],
        )


def asks_again(config: CommandConfig) -> list[str]:
    """List the settings by which a command asks for work that would otherwise be kept."""
    return [name for name in ("redo", "retry_failed", "overwrite") if getattr(config, name, None)]


def refusal_to_join(run: RunDir) -> RicError:
    """Return why edits cannot be made anew while another process is at work on the run."""
    return RicError(
        f"Another process is at work in {run.path}: --redo, --retry-failed and --overwrite would"
        " do nothing now.",
        "Repeat the command when it has ended; without them, it helps with what is left.",
    )
