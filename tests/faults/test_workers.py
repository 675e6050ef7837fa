"""Processes that share a run are killed: another takes over what they had begun."""

from __future__ import annotations

import json
import random
import signal

import pytest
from disturbed_runs import lines_of, refuse_difference
from ric_child import Fault, KilledAfter, SignalAt


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


JUDGE = """
import json

from ric.describers.quality import Answer


class Judge:
    is_model, reads_prompt = True, True

    def __init__(self, model, config, device):
        pass

    def answer(self, requests, between_steps):
        for request in requests:
            between_steps()
            number = int(request.digest[:8], 16)
            if number % 3 == 0 and request.attempt == 1:
                yield request, Answer("It is hard to say.")
            else:
                yield request, Answer(json.dumps({"score": [number % 7, number % 5]}))
"""


def test_a_judges_counts_are_those_of_one_process_whoever_died_and_whoever_took_over(
    top, undisturbed, disturbed
):
    (top / "judge.py").write_text(JUDGE)
    words = ("--metrics", "l1,vie", "--judge", f"{top / 'judge.py'}:Judge")
    whole, one = undisturbed("eval", *words), disturbed("eval", *words)
    told = json.loads((whole.run / "run.json").read_text())["judge"]
    answered = lines_of(whole.run / "judge_answers.jsonl")
    twice = sum(len(row["answers"]) == 2 for row in answered)
    assert 0 < twice < len(answered) == told["questions"]
    assert (told["malformed"], told["unanswered"]) == ({"no grades": twice}, 0)
    ended = one.typed(Fault(one.top, KilledAfter("*/scored/*/.0*.json.*")))
    assert ended.code == -signal.SIGKILL, ended.said
    one.tally("kills")
    # of two, the one that makes the tables is seldom the one that closes the run
    told = [started.end() for started in [one.start(), one.start()]]
    assert [each.code for each in told] == [0, 0], told
    refuse_difference(one, whole.run)
