"""The one training loop: when it logs, measures, saves, shows and stops, and how it goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from ric.distributed import Ranks
from ric.errors import RicError
from ric.interrupt import Interrupted, stop_signals
from ric.progress import Silent
from ric.runs.checkpoints import complete_checkpoints, last_checkpoint, load_checkpoint
from ric.runs.open_run import open_run
from ric.training.loop import Cadence, Loop, Phase, TrainState, Watch
from ric.training.optimizer import GuardedAdamW

EVERY_STEP = Cadence(log=1, save=1)


class Fit:
    """A weight that is drawn towards the number of the step, in two phases of their own rate."""

    def __init__(self, folder: Path, cadence: Cadence, watch: Watch | None = None, **named):
        self.folder, self.cadence, self.watch = folder, cadence, watch or Watch()
        self.weight = nn.Parameter(torch.zeros(3))
        self.steps: list[tuple[int, bool]] = []
        self.phases = named.get("phases", (("first", 3, 0.1), ("second", 4, 0.01)))
        self.bad = named.get("bad", ())
        self.progress = named.get("progress") or Silent()

    def step(self, step: int, logs: bool) -> dict[str, torch.Tensor]:
        self.steps.append((step, logs))
        loss = (self.weight - step).square().sum()
        if step in self.bad:
            loss = loss * math.nan
        loss.backward()
        return {"loss": loss.detach(), "twice": 2 * loss.detach()}

    def run(self) -> Fit:
        state = TrainState({"weight": self.weight})
        state.keep_averages([0.5])
        with open_run(
            "fit-clip", {"of": "a test"}, runs_dir=self.folder.parent, run=self.folder
        ) as run:
            state.resume(last_checkpoint(run))
            phases = [
                Phase(
                    name=name,
                    steps=steps,
                    begin=lambda: GuardedAdamW([self.weight], lr=1.0),
                    step=self.step,
                    rate=lambda step, rate=rate: rate,
                    images=lambda step: 2,
                )
                for name, steps, rate in self.phases
            ]
            ranks = Ranks(torch.device("cpu"))
            Loop(run, self.progress, ranks, self.cadence, self.watch).take_steps(state, phases)
        self.state = state
        return self

    @property
    def rows(self) -> list[dict]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def saved(self) -> list[int]:
        return [int(path.name[-6:]) for path in complete_checkpoints(self.folder / "checkpoints")]


def test_the_last_step_of_a_phase_is_logged_measured_and_saved_whatever_the_cadence(tmp_path):
    measured = []
    watch = Watch(measure=lambda done: measured.append(done) or {"val": float(done)})
    fit = Fit(tmp_path / "run", Cadence(log=2, save=5, measure=100, keep=9), watch).run()
    assert measured == [0, 3, 7]
    assert [row["step"] for row in fit.rows] == [0, 2, 3, 4, 6, 7]
    assert [row["step"] for row in fit.rows if "val" in row] == [0, 3, 7]
    assert fit.saved == [3, 5, 7]
    assert [step for step, logs in fit.steps if logs] == [1, 2, 3, 5, 6]


def test_a_row_has_the_loss_its_parts_the_phase_and_its_rate(tmp_path):
    watch = Watch(also=lambda: {"temperature": 0.07})
    row = Fit(tmp_path / "run", EVERY_STEP, watch).run().rows[3]
    assert (row["step"], row["phase"], row["lr"]) == (4, "second", 0.01)
    assert row["twice"] == 2 * row["loss"]
    assert row["temperature"] == 0.07
    assert row["grad_norm"] > 0
    assert row["images_per_second"] > 0


def test_the_rate_of_a_phase_is_what_its_optimizer_uses(tmp_path):
    fit = Fit(tmp_path / "run", EVERY_STEP, phases=(("one", 1, 0.25),))
    fit.step = lambda step, logs: pull(fit.weight)
    fit.run()
    # AdamW's first step is the rate, whatever the gradient
    torch.testing.assert_close(fit.weight.detach(), torch.full((3,), 0.25))


def pull(weight: nn.Parameter) -> dict[str, torch.Tensor]:
    loss = -5 * weight.sum()
    loss.backward()
    return {"loss": loss.detach()}


@pytest.mark.parametrize("stopped", [1, 3, 5])
def test_a_stop_after_any_step_saves_it_and_the_run_goes_on_to_the_bit(
    stopped, tmp_path, stop_after
):
    rare = Cadence(log=1, save=100, keep=9)
    whole = Fit(tmp_path / "whole", rare).run()
    first = Fit(tmp_path / "parts", rare, progress=stop_after("training", stopped))
    with pytest.raises(Interrupted):
        first.run()
    assert first.saved[-1] == stopped
    second = Fit(tmp_path / "parts", rare).run()
    assert [step for step, _ in second.steps] == list(range(stopped, 7))
    assert torch.equal(second.weight, whole.weight)
    assert torch.equal(second.state.averages[0]["weight"], whole.state.averages[0]["weight"])
    clock = {"images_per_second"}
    for ours, theirs in zip(second.rows, whole.rows, strict=True):
        assert {k: v for k, v in ours.items() if k not in clock} == {
            k: v for k, v in theirs.items() if k not in clock
        }


@pytest.mark.parametrize("number", stop_signals(), ids=lambda number: number.name)
def test_whatever_asks_politely_leaves_a_checkpoint(number, tmp_path, stop_after):
    rare = Cadence(log=1, save=100)
    fit = Fit(tmp_path / "run", rare, progress=stop_after("training", 2, number))
    with pytest.raises(Interrupted) as stopped:
        fit.run()
    assert fit.saved == [2]
    assert stopped.value.exit_code == 128 + number


def test_each_phase_begins_with_an_optimizer_of_its_own_and_a_resumed_one_with_its_moments(
    tmp_path, stop_after
):
    fit = Fit(tmp_path / "run", EVERY_STEP, progress=stop_after("training", 4))
    with pytest.raises(Interrupted):
        fit.run()
    groups, state = load_checkpoint(last_of(fit))
    # the fourth step is the first of the second phase
    assert groups["moments"]["weight:step"] == 1
    assert state["phase"] == "second"


def last_of(fit: Fit) -> Path:
    return complete_checkpoints(fit.folder / "checkpoints")[-1]


def test_what_is_not_finite_is_logged_as_null(tmp_path):
    watch = Watch(measure=lambda done: {"val": math.inf}, also=lambda: {"temperature": math.nan})
    fit = Fit(tmp_path / "run", Cadence(log=1, measure=1), watch, bad=(1,)).run()
    assert fit.rows[0]["val"] is None
    row = fit.rows[2]
    assert (row["loss"], row["twice"], row["temperature"], row["val"]) == (None, None, None, None)
    assert (row["skipped"], fit.rows[-1]["skipped"]) == (1, 0)  # the second phase counts anew


@pytest.mark.parametrize("cadence", [Cadence(), EVERY_STEP], ids=["unlogged", "logged"])
def test_ten_steps_in_a_row_that_are_not_finite_end_the_run(cadence, tmp_path):
    fit = Fit(tmp_path / "run", cadence, phases=(("", 12, 0.1),), bad=range(12))
    with pytest.raises(RicError, match="not finite in 10 steps in a row"):
        fit.run()


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_training_of_any_length_whose_loss_is_never_finite_is_not_done(steps, tmp_path):
    phases = (("only", steps, 0.1),)
    fit = Fit(tmp_path / "run", Cadence(save=2), bad=range(steps), phases=phases)
    with pytest.raises(RicError, match=f"not finite in {steps} steps in a row; the run stops"):
        fit.run()
    # what would go on from its last step would be done
    assert all(
        int(path.name[5:]) < steps for path in complete_checkpoints(fit.folder / "checkpoints")
    )


def test_a_training_with_one_good_step_is_done(tmp_path):
    Fit(tmp_path / "run", EVERY_STEP, bad=(0, 2), phases=(("only", 3, 0.1),)).run()


def test_a_loop_without_a_cadence_writes_nothing_even_when_it_is_stopped(tmp_path, stop_after):
    fit = Fit(tmp_path / "run", Cadence(), progress=stop_after("training", 2))
    with pytest.raises(Interrupted):
        fit.run()
    assert not (fit.folder / "metrics.jsonl").exists()
    assert fit.saved == []


def test_previews_are_shown_before_the_first_step_and_every_so_many(tmp_path):
    shown: list[int] = []
    fit = Fit(tmp_path / "run", Cadence(log=1, save=1, preview=3), Watch(preview=shown.append))
    fit.run()
    assert shown == [0, 3, 6]


def test_a_run_that_is_finished_takes_no_step_again(tmp_path):
    Fit(tmp_path / "run", EVERY_STEP).run()
    record = tmp_path / "run" / "run.json"
    record.write_text(record.read_text().replace('"done"', '"interrupted"'))
    again = Fit(tmp_path / "run", EVERY_STEP).run()
    assert again.steps == []
    assert len(again.rows) == 7


def test_figures_that_are_asked_for_stand_beside_the_progress(tmp_path):
    class Shown(Silent):
        def __init__(self) -> None:
            self.values: dict[str, float] = {}

        def advance(self, count: int = 1, **values: float) -> None:
            self.values |= values

    shown = Shown()
    watch = Watch(measure=lambda done: {"val_recall": 0.5, "val_other": 0.1}, shown="^loss$|recall")
    Fit(tmp_path / "run", Cadence(log=1, measure=1), watch, progress=shown).run()
    assert shown.values.keys() == {"loss", "val_recall"}
