"""The fitting loop of both judges: epochs of Eq. 11 over pairs, resumable to the bit (Sec. 3.2.1).

What a batch holds is a function of the seed and the epoch, so a resumed run sees exactly the
batches that are left. Pairs with the same text in a batch are not negatives of each other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ric.checkpoints import (
    clear_unfinished,
    complete_checkpoints,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    restore_tensors,
    save_checkpoint,
)
from ric.device import autocast, draw_generator, pick_dtype
from ric.interrupt import stop_between_steps
from ric.method.losses import symmetric_contrastive_loss
from ric.recipes.guarded_step import GuardedAdamW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from ric.config import FitBlipConfig, FitClipConfig
    from ric.method.judge import Judge
    from ric.progress import Progress
    from ric.recipes.examples import Example
    from ric.run_dir import RunDir


@dataclass(frozen=True)
class Phase:
    """Some epochs with one set of trained parameters and one learning rate."""

    name: str
    epochs: int
    lr: float
    trained: list[nn.Parameter]


def batches_of_epoch(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Shuffle `count` indices into batches; a last one of fewer than 2 joins the one before."""
    order = torch.randperm(count, generator=draw_generator(seed, "epoch", epoch)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < 2:
        batches[-2] += batches.pop()
    return batches


def same_text_mask(texts: Sequence[str]) -> Tensor:
    """Tell which pairs of a batch share their text: (N, N) bool, the diagonal included."""
    numbers = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    ids = torch.tensor([numbers[text] for text in texts])
    return ids[:, None] == ids[None, :]


def contrastive_epochs(
    judge: Judge,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    phases: Sequence[Phase],
    settings: FitClipConfig | FitBlipConfig,
    run: RunDir,
    progress: Progress,
    *,
    embed: Callable[[Sequence[Example]], tuple[Tensor, Tensor]],
    text_of: Callable[[Example], str],
    device: torch.device,
) -> None:
    """Fit `judge` by Eq. 11, phase after phase, logging, measuring and writing checkpoints.

    Retrieval is measured before the first step and after each phase: on the held-out examples
    when there are at least two, else on the fitted ones, and named so.

    Args:
        judge: Holds every parameter that a phase trains.
        examples: What is fitted.
        held_out: The val split; may be empty.
        phases: Run one after the other.
        settings: The command's config.
        run: Gets metrics.jsonl and checkpoints.
        progress: Told about each step.
        embed: Gives visual and text embeddings of some examples, (N, D) each.
        text_of: Gives an example's text.
        device: Where the judge is.

    Raises:
        RicError: the loss was not finite ten times in a row, or a checkpoint cannot be written.
        Interrupted: asked to stop; a checkpoint was written first.
    """
    dtype = pick_dtype(settings.dtype, device)
    measured, of_split = (held_out, "val") if len(held_out) > 1 else (examples, settings.split)

    @torch.no_grad()
    def measure() -> dict[str, float]:
        rows = []
        for start in range(0, len(measured), settings.batch_size):
            with autocast(device, dtype):
                rows.append(embed(measured[start : start + settings.batch_size]))
        visual, text = (torch.cat(parts) for parts in zip(*rows, strict=True))
        figures = retrieval(visual, text, [text_of(item) for item in measured])
        return {f"{of_split}_{name}": value for name, value in figures.items()}

    count = len(examples)
    per_epoch = len(batches_of_epoch(count, settings.batch_size, settings.seed, 0))
    ends = [per_epoch * sum(phase.epochs for phase in phases[: i + 1]) for i in range(len(phases))]
    total = ends[-1]
    folder = run.path / "checkpoints"
    clear_unfinished(folder)
    named = dict(judge.named_parameters())
    done, moments = 0, None
    if checkpoints := complete_checkpoints(folder):
        groups, state = load_checkpoint(checkpoints[-1])
        torch.set_num_threads(state["threads"])
        restore_tensors(named, groups["model"])
        done, moments = state["step"], groups.get("moments", {})
        progress.note(f"resuming after step {done} of {total}")
    run.forget_metrics_after(done)
    if done == 0:
        run.log_metrics({"step": 0, "phase": "start", **measure()})

    with (
        stop_between_steps() as stop,
        progress.stage("fitting", total=total, done=done) as stage,
    ):
        for number, phase in enumerate(phases):
            start = ends[number] - per_epoch * phase.epochs
            if done >= ends[number]:
                continue
            _train_only(judge, phase.trained)
            optimizer = GuardedAdamW(
                phase.trained, lr=phase.lr, weight_decay=settings.weight_decay
            )
            if moments and done > start:
                restore_optimizer(named.items(), optimizer.optimizer, moments)
            for step in range(done, ends[number]):
                began = time.monotonic()
                batches = batches_of_epoch(
                    count, settings.batch_size, settings.seed, step // per_epoch
                )
                batch = [examples[index] for index in batches[step % per_epoch]]
                with autocast(device, dtype):
                    visual, text = embed(batch)
                same = same_text_mask([text_of(item) for item in batch]).to(device)
                loss = symmetric_contrastive_loss(
                    visual.float(), text.float(), judge.temperature, same_text=same
                )
                loss.backward()
                norm = optimizer.step(loss)
                done = step + 1
                stage.advance()
                last = done == ends[number]
                if done % settings.log_every == 0 or last:
                    values = {
                        "loss": loss.item(),
                        "grad_norm": norm.item(),
                        "temperature": judge.temperature.item(),
                        "lr": phase.lr,
                        "images_per_second": len(batch) / (time.monotonic() - began),
                        "skipped": optimizer.check(),
                    }
                    figures = measure() if last else {}
                    run.log_metrics({"step": done, "phase": phase.name, **values, **figures})
                    stage.advance(0, loss=values["loss"], **figures)
                if done % settings.checkpoint_every == 0 or last or stop:
                    save_checkpoint(
                        folder,
                        done,
                        {
                            "model": dict(named),
                            "moments": optimizer_tensors(named.items(), optimizer.optimizer),
                        },
                        {"phase": phase.name},
                        keep=settings.keep_checkpoints,
                    )
                    stop.raise_if_set()


def _train_only(judge: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    for parameter in judge.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


@torch.no_grad()
def retrieval(visual: Tensor, text: Tensor, texts: Sequence[str]) -> dict[str, float]:
    """Measure how well pictures find their texts and texts their pictures.

    Args:
        visual: (N, D) embeddings.
        text: (N, D) embeddings, row i belongs to picture i.
        texts: The N texts: finding an identical text counts as found.

    Returns:
        `i2t_recall_at_1`, `i2t_recall_at_5`, `i2t_median_rank` and the same for `t2i`; ranks
        start at 1.
    """
    visual = torch.nn.functional.normalize(visual.float(), dim=-1)
    text = torch.nn.functional.normalize(text.float(), dim=-1)
    scores = (visual @ text.T).cpu()
    same = same_text_mask(texts)
    figures = {}
    for name, score in (("i2t", scores), ("t2i", scores.T)):
        # the rank of the best right answer among the wrong ones
        right = score.masked_fill(~same, float("-inf")).max(dim=1).values
        rank = 1 + ((score >= right[:, None]) & ~same).sum(dim=1).float()
        figures[f"{name}_recall_at_1"] = (rank <= 1).float().mean().item()
        figures[f"{name}_recall_at_5"] = (rank <= 5).float().mean().item()
        figures[f"{name}_median_rank"] = rank.median().item()
    return figures
