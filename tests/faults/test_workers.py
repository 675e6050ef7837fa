"""Processes that share a run are killed: another takes over what they had begun."""

from __future__ import annotations

import random
import signal

import pytest
from disturbed_runs import refuse_difference
from ric_child import Fault, SignalAt


@pytest.mark.parametrize("command", ["describe", pytest.param("edit", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_of_three_processes_on_one_run_two_are_killed_and_nothing_is_lost_or_made_twice(
    command, seed, undisturbed, disturbed
):
    whole, one = undisturbed(command), disturbed(command)
    draw = random.Random(f"workers {seed} {command}")
    moments = [draw.randint(whole.moments // 3, whole.moments) for _ in range(2)]
    kills = [Fault(one.top, SignalAt(moment, signal.SIGKILL)) for moment in moments]
    told = [started.end() for started in [one.start(fault) for fault in (*kills, None)]]
    assert not any("Traceback" in each.said for each in told), told
    # one of a shared run may be done before its moment comes
    codes = [each.code for each in told]
    assert set(codes[:2]) <= {-signal.SIGKILL, 0}
    assert codes[2] == 0, told[2].said
    one.tally("kills", codes.count(-signal.SIGKILL))
    one.completed()
    refuse_difference(one, whole.run)
