"""Claims: one living process per sample, and no sample lost with a dead one."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ric.runs.claims
import ric.runs.rows
from ric.runs.claims import Claims, is_alive, process_identity
from ric.runs.rows import writer_name, writer_of

# Hammers the ids in the order given, prints those it got, and stays alive until told to end.
TAKE = """
import sys
from pathlib import Path
from ric.runs.claims import Claims
folder, ids = Path(sys.argv[1]), sys.argv[2].split(",")
print("ready", flush=True)
sys.stdin.readline()
claims = Claims(folder)
print(",".join(i for i in ids if claims.take(i)), flush=True)
sys.stdin.readline()
"""


def taker(folder: Path, ids: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE, str(folder), ",".join(ids)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def go(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    """Let all start at once; return what each took."""
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [[i for i in p.stdout.readline().strip().split(",") if i] for p in processes]


def end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def claim_of(folder: Path, sample_id: str, generation: int = 0) -> Path:
    name = hashlib.sha256(sample_id.encode()).hexdigest()
    return folder / name[:2] / f"{name}.{generation}"


def claim_for(folder: Path, owner: dict, sample_id: str, beat_age: float | None) -> None:
    """Write a claim, and its owner's heartbeat of that age, as another process would."""
    path = claim_of(folder, sample_id)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**owner, "id": sample_id}))
    if beat_age is not None:
        writer = writer_of(owner["host"], owner["pid"], owner.get("place", ""))
        beat = folder / f"heartbeat-{writer}"
        beat.write_text(json.dumps(owner))
        os.utime(beat, (time.time() - beat_age,) * 2)


def writer_here(pid: int) -> str:
    me = process_identity()
    return writer_of(me["host"], pid, me["place"])


ELSEWHERE = {"host": "node7", "pid": 4711, "started": 99}
IDS = [f"sample-{i}" for i in range(150)]


def test_two_living_processes_never_both_take_a_sample(tmp_path):
    processes = [taker(tmp_path, IDS), taker(tmp_path, IDS), taker(tmp_path, IDS[::-1])]
    taken = go(processes)
    end(processes)
    assert sorted(i for one in taken for i in one) == sorted(IDS)


def test_a_dead_processes_claims_are_taken_over_at_once_each_by_one_taker(tmp_path):
    first = taker(tmp_path, IDS)
    assert go([first]) == [IDS]
    late = taker(tmp_path, IDS)
    assert go([late]) == [[]]
    end([first, late])
    processes = [taker(tmp_path, IDS) for _ in range(3)]
    taken = go(processes)
    end(processes)
    assert sorted(i for one in taken for i in one) == sorted(IDS)


def test_a_taker_that_is_overtaken_while_it_looks_does_not_win_too(tmp_path):
    dead = taker(tmp_path, ["a"])
    assert go([dead]) == [["a"]]
    end([dead])
    quick = taker(tmp_path, ["a"])

    def meanwhile(writer: str) -> set[str]:
        # we have seen that the owner is dead, and have not yet taken over
        assert go([quick]) == [["a"]]
        return set()

    assert not Claims(tmp_path, meanwhile).take("a")
    end([quick])


def test_a_process_may_take_its_own_sample_again(tmp_path):
    assert Claims(tmp_path).take("a")
    assert Claims(tmp_path).take("a")


def test_a_claim_is_free_once_its_owner_has_left_though_it_lives(tmp_path):
    other = taker(tmp_path, ["a"])
    assert go([other]) == [["a"]]
    claims = Claims(tmp_path)
    assert not claims.take("a")
    (tmp_path / f"heartbeat-{writer_here(other.pid)}").unlink()
    assert claims.take("a")
    end([other])


def test_what_an_owner_finished_before_it_left_is_not_taken_again(tmp_path):
    other = taker(tmp_path, ["a", "b"])
    go([other])
    end([other])
    asked = []

    def finished_by(writer: str) -> set[str]:
        asked.append(writer)
        return {"a"}

    claims = Claims(tmp_path, finished_by)
    assert claims.abandoned() == ["b"]
    assert not claims.take("a")
    assert claims.take("b")
    assert claims.abandoned() == []
    assert set(asked) == {writer_here(other.pid)}


@pytest.mark.parametrize(("age", "taken"), [(0, False), (45, False), (75, True), (None, True)])
def test_another_hosts_claim_is_respected_for_a_minute_after_its_last_heartbeat(
    tmp_path, age, taken
):
    claim_for(tmp_path, ELSEWHERE, "a", age)
    assert Claims(tmp_path).take("a") == taken


@pytest.mark.parametrize(("age", "taken"), [(0, False), (75, True), (None, True)])
def test_a_claim_of_another_container_of_this_host_name_is_judged_by_its_heartbeat(
    tmp_path, age, taken
):
    # nobody has that pid here; in the other container somebody may
    other = process_identity() | {"place": "0c0ffee0", "pid": 2**22 + 1}
    claim_for(tmp_path, other, "a", age)
    assert Claims(tmp_path).take("a") == taken


def test_the_same_pid_in_another_container_is_another_writer(tmp_path, monkeypatch):
    mine = process_identity()
    assert Claims(tmp_path).take("a")
    monkeypatch.setattr(ric.runs.claims, "writer_place", lambda: "0c0ffee0")
    monkeypatch.setattr(ric.runs.rows, "writer_place", lambda: "0c0ffee0")
    other = Claims(tmp_path)
    assert not other.take("a")
    assert len(other.at_work()) == 2
    other.leave()
    assert len(other.at_work()) == 1
    assert other.owner_of("a") == mine | {"id": "a"}


def test_a_process_whose_identity_names_no_place_is_judged_by_its_pid():
    me = process_identity()
    del me["place"]
    assert is_alive(me)
    assert not is_alive(me | {"pid": 2**22 + 1})


def test_of_several_settled_values_the_first_one_holds(tmp_path):
    assert Claims(tmp_path / "claims").settle("data", "a") == "a"
    assert Claims(tmp_path / "claims").settle("data", "b") == "a"
    assert Claims(tmp_path / "claims").settle("run @edit", "c") == "c"


def test_the_clock_of_this_host_plays_no_part(tmp_path, monkeypatch):
    claim_for(tmp_path, ELSEWHERE, "a", 45)
    hour_ahead = time.time() + 3600
    monkeypatch.setattr(ric.runs.claims.time, "time", lambda: hour_ahead)
    assert not Claims(tmp_path).take("a")


def test_a_claim_without_words_is_respected_for_a_minute(tmp_path):
    # its owner has created it and not yet written it, or was killed in between
    path = claim_of(tmp_path, "a")
    path.parent.mkdir(parents=True)
    path.touch()
    assert not Claims(tmp_path).take("a")
    os.utime(path, (time.time() - 75,) * 2)
    assert Claims(tmp_path).abandoned() == ["(torn claim)"]
    assert Claims(tmp_path).take("a")


def test_a_pid_that_was_used_again_is_not_taken_for_its_former_owner(tmp_path):
    me = process_identity()
    assert is_alive(me)
    assert not is_alive(me | {"started": me["started"] - 1})
    assert not is_alive({"host": me["host"], "pid": 2**22 + 1, "started": 1})
    assert not is_alive({"host": me["host"]})


def test_a_heartbeat_goes_on_while_one_sample_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(ric.runs.claims, "HEARTBEAT_EVERY", 0.01)
    claims = Claims(tmp_path)
    beat = tmp_path / f"heartbeat-{writer_name()}"
    with claims.beating():
        assert claims.at_work() == [beat.name.removeprefix("heartbeat-")]
        os.utime(beat, (0, 0))
        deadline = time.monotonic() + 5
        while beat.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert beat.stat().st_mtime > 0
    claims.leave()
    assert claims.at_work() == []


def test_clearing_forgets_all_claims(tmp_path):
    claims = Claims(tmp_path / "claims")
    claims.take("a")
    assert claims.owner_of("a") == process_identity() | {"id": "a"}
    claims.clear()
    assert not (tmp_path / "claims").exists()
    assert claims.owner_of("a") is None
