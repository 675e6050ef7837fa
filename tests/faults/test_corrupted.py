"""Pictures and rows that are damaged while a run reads them, and rows that a disk has damaged.

A damaged picture costs its own sample, with a row that says why; repeated with the picture as it
was, the command completes the run as if nothing had been.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from disturbed_runs import COMMANDS, ROWS, Disturbed, lines_of, own_error, refuse_difference
from ric_child import HOW, Damage, Fault, SignalAt

# an edit's last bits depend on what is computed beside it
ALONE = {"edit": ("--batch-size", "1")}


@pytest.fixture
def restored(top: Path, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Put DATA back as it was, with the times of its files."""
    kept = shutil.copytree(top / "data", tmp_path / "kept")

    def restore() -> None:
        shutil.copytree(kept, top / "data", dirs_exist_ok=True)

    yield restore
    restore()


def damage_a_picture(one: Disturbed, damage: Damage) -> None:
    """Run a command whose picture is damaged; the sample fails, and the others have their rows."""
    told = one.typed(Fault(one.top, damage))
    assert told.code == 3, told.said
    failed = lines_of(one.run / "failures.jsonl")
    assert [row["id"] for row in failed] == [damage.file.stem]
    rows = {row["id"] for row in lines_of(one.run / ROWS[one.command])}
    assert rows | {damage.file.stem} == {path.stem for path in (one.top / "data/source").iterdir()}
    assert damage.file.stem not in rows or one.command == "eval"
    one.tally("damaged pictures")


PICTURES = [
    ("describe", "target/02.png", "cut"),
    pytest.param("edit", "source/03.png", "zeroed", marks=pytest.mark.slow),
    pytest.param("eval", "target/01.png", "gone", marks=pytest.mark.slow),
]
TABLES = [
    ("describe", "halved", 3),
    pytest.param("edit", "noise", 2, marks=pytest.mark.slow),
    pytest.param("eval", "empty", 3, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("command", "picture", "how"), PICTURES)
def test_a_picture_damaged_before_it_is_read_costs_its_own_sample_until_it_is_back(
    command, picture, how, top, undisturbed, disturbed, restored
):
    more = ALONE.get(command, ())
    whole, one = undisturbed(command, *more), disturbed(command, *more)
    damage_a_picture(one, Damage(top / "data" / picture, how, 1))
    restored()
    if command == "eval":  # a finished one stays as it is
        one = disturbed(command)
        one.completed()
    else:
        one.completed("--retry-failed")
    refuse_difference(one, whole.run)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_picture_damaged_at_any_time_it_is_opened_is_a_row_or_one_line(
    command, how, top, disturbed, restored
):
    for time in (1, 2, 3):
        one = disturbed(command)
        told = one.typed(Fault(top, Damage(top / "data/source/04.png", how, time)))
        restored()
        assert told.code in (0, 1, 3), told.said
        if told.code == 1:
            own_error(told.said)
            one.typed()
        failed = one.run / "failures.jsonl"
        ids = [row["id"] for row in lines_of(failed)] if failed.is_file() else []
        rows = {row["id"] for row in lines_of(one.run / ROWS[command])}
        assert len(rows | set(ids)) == 6
        one.tally("damaged pictures")


@pytest.mark.parametrize(("command", "how", "time"), TABLES)
def test_rows_damaged_while_they_are_read_are_one_line_and_restored_they_complete_the_run(
    command, how, time, top, undisturbed, disturbed, restored
):
    # halved it is a table of three samples, in which nothing is wrong
    one = disturbed(command)
    told = one.typed(Fault(top, Damage(top / "data/metadata.jsonl", how, time)))
    restored()
    assert told.code == 1, told.said
    own_error(told.said)
    one.tally("damaged tables")
    one.completed()
    refuse_difference(one, undisturbed(command).run)


@pytest.mark.parametrize("command", ["describe", pytest.param("edit", marks=pytest.mark.slow)])
def test_own_rows_that_a_disk_has_zeroed_are_made_again(command, undisturbed, disturbed):
    whole, one = undisturbed(command), disturbed(command)
    told = one.typed(Fault(one.top, SignalAt(whole.moments * 3 // 4, signal.SIGKILL)))
    assert told.code == -signal.SIGKILL
    (rows,) = one.run.glob(f"{Path(ROWS[command]).stem}-*.jsonl")
    whole_rows = rows.read_bytes()
    assert len(whole_rows.splitlines()) > 1
    middle = len(whole_rows) // 2
    rows.write_bytes(whole_rows[:middle] + bytes(64) + whole_rows[middle + 64 :])
    one.tally("damaged tables")
    one.completed()
    refuse_difference(one, whole.run)
