from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gradient_distance import relative_distances
from PIL import Image
from safetensors.torch import load_file

from ric.config import FitClipConfig
from ric.distributed import Ranks
from ric.errors import RicError
from ric.inputs.examples import Needs, load_examples
from ric.interrupt import Interrupted
from ric.method.losses import same_text_mask
from ric.method.region_encoder import RegionEncoder
from ric.metrics.retrieval import retrieval
from ric.recipes.fit_clip import embed, fit_clip
from ric.runs.checkpoints import complete_checkpoints
from ric.runs.open_run import open_run
from ric.training.contrastive import BestSoFar, batches_of_epoch
from ric.training.contrastive_pairs import Pairs
from ric.weights.tiny_family import tiny_family
from ric.work import open_work

# Eight samples in batches of 3 are 3 batches an epoch: steps 1 to 6 fit the fusion, 7 to 9 all.
SETTINGS = {"batch_size": 3, "fusion_epochs": 2, "joint_epochs": 1, "checkpoint_every": 4}


# --- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 8, 9, 64, 65])
def test_an_epoch_s_batches_hold_each_index_once_and_none_holds_a_single_one(count):
    batches = batches_of_epoch(count, 4, seed=0, epoch=0)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    assert min(map(len, batches)) >= 2
    assert all(len(batch) == 4 for batch in batches[:-1])


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    first = batches_of_epoch(9, 4, seed=0, epoch=0)
    assert first == batches_of_epoch(9, 4, seed=0, epoch=0)
    assert first != batches_of_epoch(9, 4, seed=0, epoch=1)
    assert first != batches_of_epoch(9, 4, seed=1, epoch=0)


# --- the loop ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def config(tiny, edits) -> FitClipConfig:
    return tiny(FitClipConfig, edits, **SETTINGS)


@pytest.fixture(scope="module")
def whole(config, follow, tmp_path_factory) -> Path:
    """The run that nobody interrupted; it keeps the checkpoints of both phases' ends."""
    return follow(fit_clip, config, tmp_path_factory.mktemp("whole") / "run")


def weights(run: Path) -> dict[str, torch.Tensor]:
    clip = load_file(run / "region_encoder" / "clip" / "model.safetensors")
    return clip | load_file(run / "region_encoder" / "fusion.safetensors")


def step_of(run: Path) -> int:
    last = complete_checkpoints(run / "checkpoints")[-1]
    return json.loads((last / "state.json").read_text())["step"]


def test_recall_before_between_and_after_is_in_the_metrics(whole, metrics_of):
    rows = metrics_of(whole)
    assert [row["step"] for row in rows] == list(range(10))
    measured = [row for row in rows if "val_i2t_recall_at_1" in row]
    assert [(row["step"], row["phase"]) for row in measured] == [
        (0, "start"), (6, "fusion"), (9, "joint")
    ]  # fmt: skip
    for row in measured:
        assert {"val_t2i_recall_at_5", "val_t2i_median_rank"} <= row.keys()
    assert [row["lr"] for row in rows[1:]] == [1e-3] * 6 + [1e-4] * 3


# step 2 is within the first phase, before its first checkpoint; 6 is the border; 8 in the second
@pytest.mark.parametrize("stop", [2, 6, 8])
def test_an_interrupted_and_resumed_fit_equals_the_whole_one_to_the_bit(
    stop, config, whole, follow, stop_after, tmp_path, metrics_of, record_of
):
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        follow(fit_clip, config, folder, stop_after("fitting", stop))
    assert record_of(folder)["status"] == "interrupted"
    assert step_of(folder) == stop
    follow(fit_clip, config, folder)
    assert record_of(folder)["status"] == "done"
    assert metrics_of(folder) == metrics_of(whole)
    ours, theirs = weights(folder), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_fit_killed_before_its_first_checkpoint_starts_over_without_a_row_twice(
    config, whole, follow, tmp_path, metrics_of
):
    class Killed(BaseException):
        """Ends the process between two steps without a word, as kill -9 would."""

    class Kill:
        def advance(self, count: int = 1, **values: float) -> None:
            if "loss" in values:
                raise Killed

        def stage(self, *args: object, **more: object) -> Kill:
            return self

        def note(self, message: str) -> None: ...
        def __enter__(self) -> Kill:
            return self

        def __exit__(self, *error: object) -> None: ...

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        follow(fit_clip, config, folder, Kill())
    assert [row["step"] for row in metrics_of(folder)] == [0, 1]
    assert not complete_checkpoints(folder / "checkpoints")
    follow(fit_clip, config, folder)
    assert metrics_of(folder) == metrics_of(whole)


def test_a_resumed_fit_takes_over_the_number_of_threads(config, follow, stop_after, tmp_path):
    folder = tmp_path / "run"
    torch.set_num_threads(1)
    with pytest.raises(Interrupted):
        follow(fit_clip, config, folder, stop_after("fitting", 2))
    torch.set_num_threads(2)
    follow(fit_clip, config, folder)
    assert torch.get_num_threads() == 1


@pytest.fixture(scope="module")
def regions(config, tmp_path_factory):
    """The region judge before any fit, and the eight examples."""
    judge = RegionEncoder.from_clip(tiny_family() / "clip")
    with open_run("fit-clip", {}, runs_dir=tmp_path_factory.mktemp("runs")) as run:
        examples = load_examples(
            config, open_work(config, run), "train", Needs(64, region_text="region_text")
        )
    return judge, examples


def gradients(judge, examples, at_once: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    pairs = Pairs(
        judge,
        embed,
        lambda item: item.region_text,
        torch.device("cpu"),
        torch.float32,
        at_once,
        Ranks(torch.device("cpu")),
    )
    judge.zero_grad()
    loss = pairs.backward(examples)
    named = judge.named_parameters()
    return loss, {name: weight.grad for name, weight in named if weight.grad is not None}


@pytest.mark.parametrize("frozen", [True, False], ids=["phase 1", "phase 2"])
@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_micro_batches_give_the_whole_batch_s_loss_and_gradient_to_1e_5(at_once, frozen, regions):
    judge, examples = regions
    # a text that stands twice is no negative of itself, in whichever micro-batch it is
    examples = [*examples[:-1], replace(examples[-1], region_text=examples[0].region_text)]
    judge.requires_grad_(True)
    judge.freeze_backbone(frozen)
    loss, whole = gradients(judge, examples, len(examples))
    split_loss, split = gradients(judge, examples, at_once)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert any(name.startswith("tower.text_model.") for name in whole) is not frozen
    assert max(relative_distances(split, whole).values()) < 1e-5


def test_a_fit_by_micro_batches_reaches_the_loss_of_one_by_whole_batches(
    config, whole, follow, tmp_path, metrics_of
):
    run = follow(fit_clip, replace(config, micro_batch=2), tmp_path / "run")
    ours, theirs = ([row.get("loss") for row in metrics_of(folder)] for folder in (run, whole))
    assert ours[1:] == pytest.approx(theirs[1:], rel=1e-3)


def test_without_gated_fusion_phase_1_trains_tau_alone_by_micro_batches_too(
    config, follow, tmp_path, metrics_of
):
    only_tau = replace(config, gated_fusion=False, micro_batch=2, joint_epochs=0)
    rows = metrics_of(follow(fit_clip, only_tau, tmp_path / "run"))
    assert rows[1]["temperature"] != rows[2]["temperature"]


# --- what is measured, and what is kept ----------------------------------------------------------


@pytest.fixture(scope="module")
def split_edits(make_edits) -> Path:
    """Eight edits to fit, three of val and four of test."""
    splits = {number: {"split": "val" if number < 11 else "test"} for number in range(8, 15)}
    return make_edits(15, splits)


# with this rate the recall on val goes up and down
RESTLESS = {
    "batch_size": 4, "fusion_epochs": 1, "joint_epochs": 5, "joint_lr": 5e-3, "controls": False
}  # fmt: skip


@pytest.fixture(scope="module")
def best(tiny, split_edits, follow, tmp_path_factory) -> Path:
    config = tiny(FitClipConfig, split_edits, **RESTLESS, measure_every=1, keep="best")
    return follow(fit_clip, config, tmp_path_factory.mktemp("best") / "run")


def mean_recall(row) -> float:
    return (row["val_i2t_recall_at_1"] + row["val_t2i_recall_at_1"]) / 2


def test_val_is_measured_every_so_many_epochs_and_at_the_end_of_each_phase(
    tiny, split_edits, follow, tmp_path, metrics_of
):
    config = tiny(FitClipConfig, split_edits, **RESTLESS | {"joint_epochs": 4}, measure_every=2)
    rows = metrics_of(follow(fit_clip, config, tmp_path / "run"))
    # two steps an epoch: the first phase ends at 2, then every second epoch of all
    assert [row["step"] for row in rows if "val_i2t_recall_at_1" in row] == [0, 2, 4, 8, 10]


def test_the_best_weights_by_val_are_kept_and_the_final_figures_are_theirs(
    best, metrics_of, record_of
):
    rows = {row["step"]: row for row in metrics_of(best) if "val_i2t_recall_at_1" in row}
    del rows[0]  # before the first step nothing is chosen
    highest = max(map(mean_recall, rows.values()))
    kept = min(step for step, row in rows.items() if mean_recall(row) == highest)
    assert record_of(best)["kept_step"] == kept
    assert kept != max(rows), "the last is the best: this run shows nothing"
    final = json.loads((best / "retrieval.json").read_text())
    for name in ("i2t_recall_at_1", "t2i_recall_at_5", "i2t_median_rank"):
        assert final["val"][name] == rows[kept][f"val_{name}"]
    assert final["val"]["samples"] == 3
    assert final["test"]["samples"] == 4


def test_the_figures_on_test_are_those_of_the_saved_judge(best, tiny, split_edits, tmp_path):
    config = tiny(FitClipConfig, split_edits)
    with open_run("fit-clip", {}, runs_dir=tmp_path) as run:
        examples = load_examples(
            config, open_work(config, run), "test", Needs(64, region_text="region_text")
        )
    judge = RegionEncoder.from_pretrained(best)
    with torch.no_grad():
        visual, text = embed(judge, examples)
    same = same_text_mask([item.region_text for item in examples])
    expected = retrieval(visual, text, same)
    final = json.loads((best / "retrieval.json").read_text())["test"]
    assert {name: final[name] for name in expected} == expected


def test_the_curves_of_a_fit_are_drawn(best):
    with Image.open(best / "curves.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(10**6)) > 20


def test_an_interrupted_fit_that_keeps_the_best_keeps_the_same(
    best, tiny, split_edits, follow, stop_after, tmp_path, record_of
):
    settings = RESTLESS | {"measure_every": 1, "keep": "best", "checkpoint_every": 100}
    config = tiny(FitClipConfig, split_edits, **settings)
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        follow(fit_clip, config, folder, stop_after("fitting", 9))
    follow(fit_clip, config, folder)
    assert record_of(folder)["kept_step"] == record_of(best)["kept_step"]
    ours, theirs = weights(folder), weights(best)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_best_weights_that_are_damaged_are_told_when_the_fit_goes_on(tmp_path):
    with open_run("fit-clip", {}, runs_dir=tmp_path, run=tmp_path / "run") as run:
        figures = {f"val_{name}_recall_at_1": 0.5 for name in ("i2t", "t2i")}
        named = {"weight": torch.ones(2)}
        BestSoFar(run, "val").offer(3, figures, named)
        assert BestSoFar(run, "val").take_back(named) == 3
        for name in ("model.safetensors", "state.json"):
            harmed = run.path / "best" / "step-000003" / name
            harmed.write_bytes(harmed.read_bytes()[:-9])
            with pytest.raises(RicError, match=f"{harmed.name} is damaged: the best weights"):
                BestSoFar(run, "val")


def test_without_val_nothing_is_chosen(tiny, make_edits, follow, tmp_path):
    config = tiny(FitClipConfig, make_edits(4), keep="best")
    with pytest.raises(RicError, match="0 usable val samples: too few to choose by"):
        follow(fit_clip, config, tmp_path / "run")


def test_a_batch_of_one_pair_is_refused(tiny, edits, follow, tmp_path):
    config = replace(tiny(FitClipConfig, edits), batch_size=1)
    with pytest.raises(RicError, match="--batch-size is 1: a contrastive loss needs other pairs"):
        follow(fit_clip, config, tmp_path / "run")
