"""`ric report`: a page of scores, edits side by side, curves and the chain of runs; or a study."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import TEXT_COLUMNS
from ric.errors import RicError
from ric.progress import Silent
from ric.report.arms import read_side
from ric.report.chain import in_public, read_chain, weights_of
from ric.report.gallery import build_gallery
from ric.report.page import MARK, render_page
from ric.report.score_tables import read_scored_run
from ric.report.study import Asked, Study, make_study
from ric.report.thumbs import Thumbs
from ric.runs.artifacts import public_text, renamed_when_whole
from ric.runs.record import find_run, read_record
from ric.runs.rows import read_rows, write_atomically
from ric.scoring.score_table import BOLD_DIFFERENCES
from ric.scoring.votes import KEY_SUFFIX, read_key, read_votes
from ric.scoring.win_rates import count_votes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ric.progress import Progress
    from ric.report.arms import Side
    from ric.report.chain import ChainRun
    from ric.scoring.win_rates import WinRates

PAGE = "index.html"
STUDY = "study.html"
STUDY_KEY = f"study{KEY_SUFFIX}"
MOST_IN_ONE_FILE = 200  # samples, or pairs of a study
SIDE = 384  # pixels


def report(
    references: Sequence[str],
    out: Path,
    *,
    runs_dir: Path,
    data: str | None = None,
    limit: int | None = None,
    side: int = SIDE,
    single_file: bool = False,
    votes: WinRates | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `index.html`, and `thumbs/` beside it, and return the page's path.

    Args:
        references: Paths, numbers or `@command` of runs. Eval runs give score tables and the
            editors that they scored, edit runs edits; every run its chain, with trainings' curves.
        out: The folder; a report that is there is replaced when the new one is whole.
        runs_dir: Where numbers and `@command` are looked up.
        data: Where the samples are now, if not where the runs read them.
        limit: Show at most this many samples.
        side: The longest side of the copied pictures, in pixels.
        single_file: Put the pictures into the page.
        votes: What a study's voters said of the editors; see `read_win_rates`.
        progress: Counts the samples, and hears of what cannot be shown.

    Raises:
        RicError: a run or DATA cannot be read, the runs are over different data, `out` holds
            something else, or `single_file` is asked of more than 200 samples.
    """
    progress = progress or Silent()
    refuse_other_folder(out)
    runs = [_found(reference, runs_dir) for reference in references]
    chain, missing = read_chain(runs)
    scored = [read_scored_run(path) for path in runs if _command(path) == "eval"]
    shown = read_side(runs, runs_dir, data)
    with renamed_when_whole(Path(os.path.abspath(out))) as folder:
        thumbs = Thumbs(None if single_file else folder, side)
        gallery, lost = None, list[str]()
        if shown is not None:
            limit = _limit_of_one_file(shown, limit) if single_file else limit
            texts = _described(chain)
            gallery, lost = build_gallery(shown, thumbs, progress, limit=limit, texts=texts)
        for note in (notes := [*missing, *_notes_of(shown, lost, votes)]):
            progress.note(note)
        page = render_page(
            title=_title(shown, chain),
            made=datetime.now(UTC).strftime("%Y-%m-%d"),
            scored=scored,
            votes=votes,
            chain=chain,
            weights=weights_of(chain),
            notes=notes,
            bold_differences=BOLD_DIFFERENCES,
            gallery=gallery,
            count=len(gallery["ids"]) if gallery else 0,
            trained=[run for run in chain if run.charts],
        )
        write_atomically(folder / PAGE, page)
    return out / PAGE


def study(
    references: Sequence[str],
    out: Path,
    *,
    runs_dir: Path,
    asked: Asked,
    data: str | None = None,
    side: int = SIDE,
    progress: Progress | None = None,
) -> Path:
    """Write `study.html`, a page of blind pairs, and its key beside it; return the page's path.

    Args:
        references: Edit runs, or eval runs of several editors, as `report` takes them.
        out: The folder. Only the study that is there already is written anew.
        runs_dir: As of `report`.
        asked: How many pairs, and which.
        data: As of `report`.
        side: As of `report`.
        progress: Counts the pairs, and hears of those that cannot be shown.

    Raises:
        RicError: a run or DATA cannot be read, no study can be made of them, there are more pairs
            than one file holds or fewer than asked for, or `out` holds another study.
    """
    progress = progress or Silent()
    if asked.count > MOST_IN_ONE_FILE:
        raise RicError(
            f"A study holds up to {MOST_IN_ONE_FILE} pairs, not {asked.count}.",
            "Make several, each of another --seed or DATA.",
        )
    if (out.exists() and not out.is_dir()) or (
        (out / STUDY).exists() and not (out / STUDY_KEY).exists()
    ):
        raise RicError(
            f"{out} already exists and is not a study.", "Name another folder: --out DIR"
        )
    shown = read_side([_found(reference, runs_dir) for reference in references], runs_dir, data)
    if shown is None:
        raise RicError("A study needs edits, and these runs have none.", "Name edit or eval runs.")
    made = make_study(shown, asked, Thumbs(None, side), progress)
    for note in [*shown.notes, *_in_a_line(made.failures, "pairs")]:
        progress.note(note)
    _write_study(made, out)
    return out / STUDY


def _write_study(made: Study, out: Path) -> None:
    """Write page and key, unless they would replace those of another study (RicError)."""
    if (out / STUDY_KEY).exists() and read_key(out / STUDY_KEY).study != made.hash:
        raise RicError(
            f"{out} holds another study, whose answers nothing could read without its key.",
            "Name another folder: --out DIR",
        )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / STUDY_KEY, json.dumps(made.key, indent=2) + "\n")
    write_atomically(out / STUDY, made.page)


def read_win_rates(answers: Sequence[Path], key: Path, *, seed: int = 0) -> WinRates:
    """Count the votes in files of answers, or in folders of them.

    Args:
        answers: What voters saved on a study's page.
        key: The key that was written with the page.
        seed: Seeds the intervals of strengths.

    Raises:
        RicError: the key cannot be read, or no file of answers can be used.
    """
    known = read_key(key)
    return count_votes(known.study, known.editors, read_votes(answers, known), seed=seed)


def _notes_of(shown: Side | None, lost: Sequence[str], votes: WinRates | None) -> list[str]:
    """Say what is missing of the pictures, and which votes do not count or are on other editors."""
    notes = [*(shown.notes if shown else ()), *_in_a_line(lost)]
    if votes is None:
        return notes
    notes += [public_text(note) for note in votes.notes]  # the page shows them to others
    labels = [arm.label for arm in (shown.arms if shown else ())]
    if others := ", ".join(label for label in votes.editors if label not in labels):
        notes.append(f"The votes are on {others}, not of these runs.")
    return notes


def refuse_other_folder(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier report (raises RicError)."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    page = out / PAGE
    if not page.is_file() or MARK not in page.read_text("utf-8", errors="replace")[:4096]:
        raise RicError(
            f"{out} already exists and is not a report.", "Name another folder: --out DIR"
        )


def _found(reference: str, runs_dir: Path) -> Path:
    path = find_run(reference, runs_dir)
    if path is None:
        raise RicError(f"No run at {reference!r}.", "List the runs: ric runs ls")
    return path


def _command(path: Path) -> str:
    return str(read_record(path)["command"])


def _limit_of_one_file(shown: Side, limit: int | None) -> int | None:
    """Return the limit, once it is known that a single file can hold the samples."""
    if limit is None or limit > MOST_IN_ONE_FILE:
        count = sum(1 for _ in shown.samples(lambda error: None))
        if min(count, limit or count) > MOST_IN_ONE_FILE:
            raise RicError(
                f"A single file holds up to {MOST_IN_ONE_FILE} samples; here are {count}.",
                f"Omit --single-file, or add --limit {MOST_IN_ONE_FILE}",
            )
    return limit


def _described(chain: Sequence[ChainRun]) -> dict[str, dict[str, str]]:
    """Collect the texts of the chain's describe runs, by sample and column."""
    texts: dict[str, dict[str, str]] = {}
    for run in chain:
        rows: Any = read_rows(run.path, "descriptions") if run.command == "describe" else ()
        for row in rows:
            told = {key: row[key] for key in TEXT_COLUMNS if isinstance(row.get(key), str)}
            texts.setdefault(str(row["id"]), {}).update(told)
    return texts


def _in_a_line(lost: Sequence[str], what: str = "pictures") -> list[str]:
    """Say how many of them cannot be read, and name the first."""
    if not lost:
        return []
    return [f"{len(lost)} {what} cannot be shown, such as {lost[0]}"]


def _title(shown: Side | None, chain: Sequence[ChainRun]) -> str:
    """Name what was edited; without edits, the last run."""
    return chain[-1].name if shown is None else f"Edits of {in_public(shown.data)}"
