"""Claims: one living process per sample, and no sample lost with a dead one."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

import ric.runs.claims
import ric.runs.rows
from ric.runs.claims import Claims, is_alive, process_identity
from ric.runs.rows import create_atomically, writer_name, writer_of

# Hammers the ids in the order given, prints those it got, and stays alive until told to end.
TAKE = """
import sys
from pathlib import Path
from threading import Thread
from ric.runs.claims import Claims
folder, ids = Path(sys.argv[1]), sys.argv[2].split(",")
print("ready", flush=True)
sys.stdin.readline()
claims = Claims(folder)
print(",".join(i for i in ids if claims.take(*i.split())), flush=True)
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
    assert not claims.take("a")
    assert claims.take("b")
    assert claims.left_to_others == {"a"}
    assert set(asked) == {writer_here(other.pid)}


def test_samples_that_are_worked_on_together_have_one_owner_until_all_are_finished(tmp_path):
    finished = {}
    for sample_id in ("a", "b"):
        worker = taker(tmp_path, ["a b"])
        assert go([worker]) == [["a b"]]
        assert not Claims(tmp_path).take("a", "b")
        end([worker])
        # each of them does one sample before it dies
        finished[writer_here(worker.pid)] = {sample_id}
    claims = Claims(tmp_path, finished.__getitem__)
    assert not claims.take("a", "b")
    assert claims.left_to_others == {"a", "b"}
    finished[writer_here(worker.pid)] = set()
    assert Claims(tmp_path, finished.__getitem__).take("a", "b")


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
    assert other.owner_of("a") == mine | {"ids": ["a"]}


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


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Let the system write `limit` bytes into a file and then refuse, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_claim_or_a_heartbeat_that_a_full_disk_cuts_is_not_there_at_all(tmp_path):
    claims = Claims(tmp_path)
    with full_disk(40), pytest.raises(OSError, match="File too large"):
        claims.heartbeat()
    assert list(tmp_path.iterdir()) == []
    claims.heartbeat()
    with full_disk(40), pytest.raises(OSError, match="File too large"):
        claims.take("a")
    assert claims.owner_of("a") == {}
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.name[0] == "."]
    assert claims.take("a")


def test_where_there_are_no_links_one_taker_wins_and_a_full_disk_leaves_no_claim(
    tmp_path, monkeypatch
):
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    claims = Claims(tmp_path)
    claims.heartbeat()
    assert create_atomically(tmp_path / "one", "first")
    assert not create_atomically(tmp_path / "one", "second")
    assert (tmp_path / "one").read_text() == "first"
    written = ric.runs.rows._written_aside

    @contextmanager
    def small_then(path: Path, text: str) -> Iterator[Path]:
        with written(path, "") as aside:
            yield aside

    monkeypatch.setattr(ric.runs.rows, "_written_aside", small_then)
    with full_disk(40), pytest.raises(OSError, match="File too large"):
        claims.take("a")
    assert claims.owner_of("a") == {}
    assert claims.take("a")


@pytest.mark.parametrize("text", ["", '{"host": "vm", "pi', "[" * 100_000, "5", '{"pid": 1}'])
def test_a_torn_claim_is_free_unless_somebody_else_is_at_work_and_may_be_writing_it(tmp_path, text):
    path = claim_of(tmp_path, "a")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with taking(tmp_path):
        claims = Claims(tmp_path)
        assert not claims.take("a")
        assert claims.left_to_others == {"a"}
        os.utime(path, (time.time() - 75,) * 2)
        assert claims.take("a")
    path.with_suffix(".1").unlink()
    os.utime(path)
    assert Claims(tmp_path).take("a")


@contextmanager
def taking(folder: Path) -> Iterator[None]:
    """Have a living process at work that took another sample."""
    other = taker(folder, ["other"])
    go([other])
    try:
        yield
    finally:
        end([other])


@pytest.mark.parametrize(
    "owner",
    [
        {},
        {"host": "node7"},
        {"host": 7, "pid": 4711},
        {"host": "node7", "pid": True},
        {"host": "node7", "pid": 0},
        {"host": "node7", "pid": -1},
        {"host": "node7", "pid": 10**30},
        {"host": "node7", "pid": 1.5},
        {"host": "node7", "pid": 1, "place": ["x"]},
        ["host"],
        None,
    ],
)
def test_what_is_no_identity_is_nobody_at_work(tmp_path, owner):
    assert not is_alive(owner, 0.0)
    (tmp_path / "heartbeat-node7.4711").write_text(json.dumps(owner))
    assert Claims(tmp_path).at_work() == []


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
        deadline = time.monotonic() + 60
        while beat.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert beat.stat().st_mtime > 0
    claims.leave()
    assert claims.at_work() == []


def test_clearing_forgets_all_claims(tmp_path):
    claims = Claims(tmp_path / "claims")
    claims.take("a")
    assert claims.owner_of("a") == process_identity() | {"ids": ["a"]}
    claims.clear()
    assert not (tmp_path / "claims").exists()
    assert claims.owner_of("a") == {}


LEADS = """
import sys, time
from pathlib import Path
from threading import Thread
from ric.runs.claims import Claims

claims = Claims(Path(sys.argv[1]))

def lead():
    print("leads", flush=True)
    sys.stdin.readline()

print("led:", claims.led("look", lead, "thoroughly"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def leader(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A process that leads, until it is sent a line, and then stays at work."""
    words = [sys.executable, "-c", LEADS, str(tmp_path / "claims")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, **pipes)
    assert process.stdout.readline() == "leads\n"
    yield process
    process.kill()
    process.wait()


def test_others_wait_until_one_has_led_and_those_that_come_later_do_not(leader, tmp_path):
    claims, led = Claims(tmp_path / "claims"), []

    def wait_for_it() -> None:
        led.append(claims.led("look", lambda: led.append("again"), "quickly"))

    others = Thread(target=wait_for_it)
    others.start()
    time.sleep(0.5)
    assert led == []
    leader.stdin.write("go on\n")
    leader.stdin.flush()
    others.join(timeout=30)
    assert led == ["thoroughly"]
    assert claims.led("look", lambda: led.append("again"), "quickly") == "thoroughly"
    assert led == ["thoroughly"]
    assert claims.left_to_others == set()  # it is no sample


def test_one_that_dies_while_it_leads_is_followed_by_another(leader, tmp_path):
    leader.kill()
    leader.wait()
    led: list[str] = []
    claims = Claims(tmp_path / "claims")
    assert claims.led("look", lambda: led.append("again"), "quickly") == "quickly"
    assert led == ["again"]
