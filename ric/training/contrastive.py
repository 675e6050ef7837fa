"""The fitting loop of both judges: epochs of Eq. 11 over pairs, resumable to the bit (Sec. 3.2.1).

What a batch holds is a function of the seed and the epoch, so a resumed run sees exactly the
batches that are left, and every process of several knows them without asking.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from ric.device import draw_generator
from ric.errors import RicError
from ric.interrupt import stop_between_steps
from ric.report.curves import Panel, draw_curves
from ric.runs.checkpoints import (
    complete_checkpoints,
    last_checkpoint,
    load_checkpoint,
    restore_tensors,
    save_checkpoint,
)
from ric.runs.rows import write_atomically
from ric.training.optimizer import GuardedAdamW, finite_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from ric.config import FitBlipConfig, FitClipConfig
    from ric.inputs.examples import Example
    from ric.progress import Progress
    from ric.runs.run import RunDir
    from ric.training.contrastive_pairs import Embed, Pairs


CURVES = (
    Panel("Eq. 11", "^loss$"),
    Panel("recall at 1", "recall_at_1$", (0, 1)),
    Panel("recall at 5", "recall_at_5$", (0, 1)),
    Panel("temperature", "^temperature$"),
)


@dataclass(frozen=True)
class Phase:
    """Some epochs (0: none) with one set of trained parameters and one learning rate.

    Attributes:
        prepare: Called before the first step; gives what embeds the fitted examples in this phase.
            None: they are embedded as at any other time.
    """

    name: str
    epochs: int
    lr: float
    trained: list[nn.Parameter]
    prepare: Callable[[], Embed] | None = None


def batches_of_epoch(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Shuffle `count` indices into batches; a last one of fewer than 2 joins the one before."""
    order = torch.randperm(count, generator=draw_generator(seed, "epoch", epoch)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < 2:
        single = batches.pop()
        batches[-1] += single
    return batches


def contrastive_epochs(
    pairs: Pairs,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    phases: Sequence[Phase],
    settings: FitClipConfig | FitBlipConfig,
    run: RunDir,
    progress: Progress,
) -> None:
    """Fit the judge by Eq. 11, phase after phase, logging, measuring and writing checkpoints.

    Retrieval is measured before the first step, every `measure_every` epochs and after each phase:
    on the held-out examples when there are at least two, else on the fitted ones, and named so.
    `--keep best` leaves the judge as it was when both recalls at 1 were highest on average.

    Args:
        pairs: Holds the judge, and all parameters that a phase trains.
        examples: What is fitted.
        held_out: The val split; may be empty, and is not looked at but in the leading process.
        phases: Run one after the other.
        settings: The command's config.
        run: Gets metrics.jsonl, checkpoints, and how many texts are too long for the judge.
        progress: Told about each step.

    Raises:
        RicError: a batch of one pair, nothing to choose the best by, the loss was not finite ten
            times in a row, or a checkpoint cannot be written.
        Interrupted: asked to stop; a checkpoint was written first.
    """
    if settings.batch_size < 2:
        raise RicError(
            f"--batch-size is {settings.batch_size}: a pair needs others to be told from.",
            "Use at least 2; the paper uses 64 and 32.",
        )
    judge, ranks = pairs.judge, pairs.ranks
    if ranks.leads and settings.keep == "best" and len(held_out) < 2:
        raise RicError(
            f"{settings.data} has {len(held_out)} usable samples of val: too few to choose by.",
            "Keep the last weights: --keep last",
        )
    checkpoint = last_checkpoint(run)
    measured, of_split = (held_out, "val") if len(held_out) > 1 else (examples, settings.split)

    def measure() -> dict[str, float]:
        if not ranks.leads:
            return {}
        return {f"{of_split}_{name}": value for name, value in pairs.measure(measured).items()}

    judge.truncated_texts = 0
    judge.tokenize([pairs.text_of(item) for item in examples])
    run.note(truncated_texts=judge.truncated_texts, processes=ranks.count)
    named = dict(judge.named_parameters())
    best = BestSoFar(run, of_split)
    done, moments = 0, {}
    if checkpoint:
        groups, state = load_checkpoint(checkpoint)
        restore_tensors(named, groups["model"])
        done, moments = state["step"], groups["moments"]
    per_epoch = len(batches_of_epoch(len(examples), settings.batch_size, settings.seed, 0))
    ends = list(accumulate(per_epoch * phase.epochs for phase in phases))
    if done:
        progress.note(f"resuming after step {done} of {ends[-1]}")
        run.forget_metrics_after(done)
    else:
        run.forget_metrics_after(-1)  # the row of step 0 is measured again
        run.log_metrics({"step": 0, "phase": "start", **measure()})

    embeds = {
        phase.name: phase.prepare()
        for phase, end in zip(phases, ends, strict=True)
        if phase.prepare and phase.epochs and done < end
    }
    with (
        stop_between_steps(second_ends=ranks.count == 1) as stop,
        progress.stage("fitting", total=ends[-1], done=done) as stage,
    ):
        for phase, end in zip(phases, ends, strict=True):
            if done >= end:
                continue
            _train_only(judge, phase.trained)
            embedded = replace(pairs, embed=embeds.get(phase.name, pairs.embed))
            optimizer = GuardedAdamW(phase.trained, lr=phase.lr, weight_decay=settings.weight_decay)
            if done > end - per_epoch * phase.epochs:
                optimizer.restore(named, moments)
            began, counted = time.monotonic(), 0
            for step in range(done, end):
                epoch, place = divmod(step, per_epoch)
                batches = batches_of_epoch(len(examples), settings.batch_size, settings.seed, epoch)
                batch = [examples[index] for index in batches[place]]
                loss = embedded.backward(batch)
                norm = optimizer.step(loss)
                done, counted = step + 1, counted + len(batch)
                stage.advance()
                asked = ranks.asked_of_any(stop)
                last = done == end
                measures = last or done % (per_epoch * settings.measure_every) == 0
                logs = measures or done % settings.log_every == 0
                saves = done % settings.checkpoint_every == 0 or last or asked is not None
                if logs:
                    row = {
                        "loss": loss.item(),
                        "grad_norm": norm.item(),
                        "skipped": optimizer.check(),
                        "temperature": judge.temperature.item(),
                        "lr": phase.lr,
                        "images_per_second": counted / (time.monotonic() - began),
                    }
                    figures = measure() if measures else {}
                    if settings.keep == "best" and figures:
                        best.offer(done, figures, named)
                    run.log_metrics(
                        {"step": done, "phase": phase.name, **finite_or_none(row), **figures}
                    )
                    recalls = {key: figures[key] for key in figures if "i2t_recall_at_1" in key}
                    stage.advance(0, loss=row["loss"], **recalls)
                if saves and ranks.leads:
                    groups = {"model": dict(named), "moments": optimizer.tensors(named)}
                    save_checkpoint(
                        run.path / "checkpoints",
                        done,
                        groups,
                        {"phase": phase.name},
                        keep=settings.keep_checkpoints,
                    )
                if asked:
                    ranks.leave_together(asked)
                if logs or saves:
                    began, counted = time.monotonic(), 0
    if settings.keep == "best" and ranks.leads:
        run.note(kept_step=best.take_back(named))


class BestSoFar:
    """The weights that retrieved best, kept in the run's folder `best`."""

    def __init__(self, run: RunDir, split: str) -> None:
        """Go on from what an earlier attempt at the run has kept."""
        self.folder = run.path / "best"
        self.split = split
        kept = complete_checkpoints(self.folder)
        self.recall = -1.0
        if kept:
            self.recall = json.loads((kept[-1] / "state.json").read_text())["recall"]

    def offer(self, step: int, figures: Mapping[str, float], named: Mapping[str, Tensor]) -> None:
        """Keep the weights where their mean recall at 1 is above all before."""
        both = [figures[f"{self.split}_{name}_recall_at_1"] for name in ("i2t", "t2i")]
        recall = sum(both) / 2
        if recall > self.recall:
            self.recall = recall
            save_checkpoint(self.folder, step, {"model": dict(named)}, {"recall": recall}, keep=1)

    def take_back(self, named: Mapping[str, Tensor]) -> int:
        """Put the kept weights back; return their step."""
        groups, state = load_checkpoint(complete_checkpoints(self.folder)[-1])
        restore_tensors(named, groups["model"])
        return int(state["step"])


def measure_kept(
    pairs: Pairs, splits: Mapping[str, Sequence[Example]], run: RunDir
) -> dict[str, dict[str, float]]:
    """Measure the weights that are kept on each split of two examples or more.

    Written to the run's `retrieval.json`; drawn, with all that was logged, in `curves.png`.
    """
    figures = {
        split: {"samples": float(len(examples)), **pairs.measure(examples)}
        for split, examples in splits.items()
        if len(examples) > 1
    }
    write_atomically(run.path / "retrieval.json", json.dumps(figures, indent=2) + "\n")
    draw_curves(run, CURVES)
    return figures


def _train_only(judge: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    judge.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
