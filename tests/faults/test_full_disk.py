"""A disk that fills up ends a command with one line; with more room, the command completes the run.

A small tmpfs stands for the disk, which needs the right to mount. Without it the system refuses to
write beyond a size into any file, which also cuts a row or a picture where it stands.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed_runs import COMMANDS, Disturbed, own_error, refuse_difference
from ric_child import Fault, RefuseWrites

PAGE = os.sysconf("SC_PAGE_SIZE")
SHORT = {"edit": (0.6,)}


class SmallDisk:
    """A tmpfs whose size can be changed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()

    def mount(self, size: int, *options: str) -> bool:
        told = ",".join((*options, f"size={size}"))
        words = ["mount", "-t", "tmpfs", "-o", told, "tmpfs", str(self.place)]
        try:
            return subprocess.run(words, capture_output=True).returncode == 0
        except FileNotFoundError:
            return False


@pytest.fixture
def disk(top: Path, tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(top / f"disk-{tmp_path.name}")
    if not made.mount(PAGE):
        pytest.skip("a small tmpfs cannot be mounted here")
    yield made
    subprocess.run(["umount", str(made.place)], check=True)


def pages(run: Path) -> int:
    """Count the bytes that a run takes on a tmpfs: whole pages."""
    return sum(-(-file.stat().st_size // PAGE) * PAGE for file in run.rglob("*") if file.is_file())


def fill(one: Disturbed, disk: SmallDisk, whole: Path, share: float) -> None:
    assert disk.mount(max(int(share * pages(whole)), 4 * PAGE), "remount")
    told = one.typed()
    assert told.code == 1, told.said
    assert re.search("full|No space left|has .* left", own_error(told.said)), told.said
    one.tally("full disks")
    assert disk.mount(64 << 20, "remount")
    one.completed()
    refuse_difference(one, whole)


@pytest.mark.parametrize("command", SHORT)
def test_a_small_tmpfs_that_fills_up_is_one_line_and_with_more_room_the_run_is_completed(
    command, undisturbed, top, disk, tally
):
    for share in SHORT[command]:
        run = disk.place / f"{command}-{share}"
        fill(Disturbed(command, top, run, tally), disk, undisturbed(command).run, share)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_tmpfs_of_any_size_below_what_a_run_takes_is_one_line_and_the_run_is_completed(
    command, undisturbed, top, disk, tally
):
    for share in (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.97):
        run = disk.place / f"{command}-{share}"
        fill(Disturbed(command, top, run, tally), disk, undisturbed(command).run, share)
        subprocess.run(["rm", "-r", str(run)], check=True)


# of each command what it writes, and after how many bytes the system refuses to go on
CUT = {
    "describe": [("*/descriptions-*.jsonl", 300)],
    "edit": [("*/.picture.*", 600), ("*/edits-*.jsonl", 900)],
    "eval": [("*/scored/*", 100), ("*/.per_sample*", 1000)],
    "fit-clip": [("*/.step-*/moments*", 5000), ("*/.region_encoder.*", 5000)],
    "fit-blip": [("*/metrics.jsonl", 200), ("*/.scene_encoder.*", 5000)],
    "train-unet": [("*/.step-*/model*", 5000), ("*/.pipeline.*", 5000), ("*/.picture.*", 5000)],
}


def refuse_writes(one: Disturbed, whole: Path, refused: RefuseWrites) -> None:
    told = one.typed(Fault(one.top, refused))
    assert told.code == 1, told.said
    own_error(told.said)
    one.tally("refused writes")
    one.completed()
    refuse_difference(one, whole)


@pytest.mark.parametrize("command", ["describe"])
def test_a_write_that_is_cut_and_refused_is_one_line_and_the_repeated_run_is_whole(
    command, undisturbed, disturbed
):
    pattern, size = CUT[command][0]
    refuse_writes(disturbed(command), undisturbed(command).run, RefuseWrites(pattern, size))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "pattern", "size"),
    [(command, *cut) for command, cuts in CUT.items() for cut in cuts],
)
def test_a_write_cut_in_any_of_a_runs_files_is_one_line_and_the_repeated_run_is_whole(
    command, pattern, size, undisturbed, disturbed
):
    refuse_writes(disturbed(command), undisturbed(command).run, RefuseWrites(pattern, size))
