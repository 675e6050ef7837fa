"""The fitting loop of both judges: epochs of Eq. 11 over pairs, resumable to the bit (Sec. 3.2.1).

What a batch holds is a function of the seed and the epoch, so a resumed run sees exactly the
batches that are left. Pairs with the same text in a batch are not negatives of each other.

Eq. 11 compares every pair with every other, so a batch cannot be split as that of a mean over
samples can. `--micro-batch N` holds the graph of N pairs at a time all the same (gradient caching,
Gao et al. 2021): all pairs are embedded without a graph, Eq. 11 gives each embedding its gradient,
and a second pass over each N pairs carries theirs on to the weights.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from ric.checkpoints import load_checkpoint, restore_tensors, save_checkpoint
from ric.device import autocast, draw_generator, pick_dtype
from ric.errors import RicError
from ric.interrupt import stop_between_steps
from ric.method.losses import symmetric_contrastive_loss
from ric.recipes.guarded_step import GuardedAdamW, finite_or_none
from ric.recipes.resume import last_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from ric.config import FitBlipConfig, FitClipConfig
    from ric.method.judge import Judge
    from ric.progress import Progress
    from ric.recipes.examples import Example
    from ric.run_dir import RunDir


T = TypeVar("T", "Sequence[Example]", "Tensor")


@dataclass(frozen=True)
class Phase:
    """Some epochs (0: none) with one set of trained parameters and one learning rate."""

    name: str
    epochs: int
    lr: float
    trained: list[nn.Parameter]


def batches_of_epoch(count: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Shuffle `count` indices into batches; a last one of fewer than 2 joins the one before."""
    order = torch.randperm(count, generator=draw_generator(seed, "epoch", epoch)).tolist()
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    if len(batches) > 1 and len(batches[-1]) < 2:
        single = batches.pop()
        batches[-1] += single
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
        run: Gets metrics.jsonl, checkpoints, and how many texts are too long for the judge.
        progress: Told about each step.
        embed: Gives visual and text embeddings of some examples, (N, D) each.
        text_of: Gives an example's text.
        device: Where the judge is.

    Raises:
        RicError: a batch of one pair, the loss was not finite ten times in a row, or a checkpoint
            cannot be written.
        Interrupted: asked to stop; a checkpoint was written first.
    """
    if settings.batch_size < 2:
        raise RicError(
            f"--batch-size is {settings.batch_size}: a pair needs others to be told from.",
            "Use at least 2; the paper uses 64 and 32.",
        )
    checkpoint = last_checkpoint(run)
    pairs = Pairs(
        judge,
        embed,
        text_of,
        device,
        pick_dtype(settings.dtype, device),
        settings.micro_batch or settings.batch_size + 1,  # an epoch's last may be one longer
    )
    measured, of_split = (held_out, "val") if len(held_out) > 1 else (examples, settings.split)

    def measure() -> dict[str, float]:
        figures = pairs.measure(measured, settings.batch_size)
        return {f"{of_split}_{name}": value for name, value in figures.items()}

    judge.truncated_texts = 0
    judge.tokenize([text_of(item) for item in examples])
    run.note(truncated_texts=judge.truncated_texts)
    named = dict(judge.named_parameters())
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

    with (
        stop_between_steps() as stop,
        progress.stage("fitting", total=ends[-1], done=done) as stage,
    ):
        for phase, end in zip(phases, ends, strict=True):
            if done >= end:
                continue
            _train_only(judge, phase.trained)
            optimizer = GuardedAdamW(phase.trained, lr=phase.lr, weight_decay=settings.weight_decay)
            if done > end - per_epoch * phase.epochs:
                optimizer.restore(named, moments)
            began, counted = time.monotonic(), 0
            for step in range(done, end):
                epoch, place = divmod(step, per_epoch)
                batches = batches_of_epoch(len(examples), settings.batch_size, settings.seed, epoch)
                batch = [examples[index] for index in batches[place]]
                loss = pairs.backward(batch)
                norm = optimizer.step(loss)
                done, counted = step + 1, counted + len(batch)
                stage.advance()
                last = done == end
                logs = done % settings.log_every == 0 or last
                saves = done % settings.checkpoint_every == 0 or last or bool(stop)
                if logs:
                    row = {
                        "loss": loss.item(),
                        "grad_norm": norm.item(),
                        "skipped": optimizer.check(),
                        "temperature": judge.temperature.item(),
                        "lr": phase.lr,
                        "images_per_second": counted / (time.monotonic() - began),
                    }
                    figures = measure() if last else {}
                    run.log_metrics(
                        {"step": done, "phase": phase.name, **finite_or_none(row), **figures}
                    )
                    recalls = {key: figures[key] for key in figures if "i2t_recall_at_1" in key}
                    stage.advance(0, loss=row["loss"], **recalls)
                if saves:
                    groups = {"model": dict(named), "moments": optimizer.tensors(named)}
                    save_checkpoint(
                        run.path / "checkpoints",
                        done,
                        groups,
                        {"phase": phase.name},
                        keep=settings.keep_checkpoints,
                    )
                    stop.raise_if_set()
                if logs or saves:
                    began, counted = time.monotonic(), 0


@dataclass(frozen=True)
class Pairs:
    """How examples become embeddings, a loss and retrieval figures."""

    judge: Judge
    embed: Callable[[Sequence[Example]], tuple[Tensor, Tensor]]
    text_of: Callable[[Example], str]
    device: torch.device
    dtype: torch.dtype
    at_once: int  # pairs whose graph is held

    def backward(self, batch: Sequence[Example]) -> Tensor:
        """Go forward and back through Eq. 11 of one batch; return the loss."""
        micro_batches = list(_split(batch, self.at_once))
        if len(micro_batches) == 1:
            loss = self.loss(*self._embed(batch), batch)
            loss.backward()
            return loss.detach()
        with torch.no_grad():
            rows = [self._embed(some) for some in micro_batches]
        visual, text = (torch.cat(parts).requires_grad_() for parts in zip(*rows, strict=True))
        loss = self.loss(visual, text, batch)
        loss.backward()  # to the embeddings, and to tau
        gradients = zip(
            _split(cast("Tensor", visual.grad), self.at_once),
            _split(cast("Tensor", text.grad), self.at_once),
            strict=True,
        )
        for some, given in zip(micro_batches, gradients, strict=True):
            for embedded, gradient in zip(self._embed(some), given, strict=True):
                if embedded.requires_grad:  # phase 1 leaves the text tower alone
                    embedded.backward(gradient)
        return loss.detach()

    def loss(self, visual: Tensor, text: Tensor, batch: Sequence[Example]) -> Tensor:
        """Give Eq. 11 of the embeddings (N, D) of a batch's N pairs."""
        same = same_text_mask([self.text_of(item) for item in batch])
        return symmetric_contrastive_loss(
            visual, text, self.judge.temperature, same_text=same
        )  # Eq. 11

    def _embed(self, items: Sequence[Example]) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.dtype):
            return self.embed(items)

    @torch.no_grad()
    def measure(self, examples: Sequence[Example], batch_size: int) -> dict[str, float]:
        """Embed some examples and give their `retrieval`."""
        rows = [self._embed(some) for some in _split(examples, min(batch_size, self.at_once))]
        visual, text = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return retrieval(visual, text, [self.text_of(item) for item in examples])


def _split(items: T, size: int) -> Iterator[T]:
    """Cut a sequence or a tensor into pieces of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _train_only(judge: nn.Module, trained: Sequence[nn.Parameter]) -> None:
    judge.requires_grad_(False)
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
        `i2t_recall_at_1`, `i2t_recall_at_5`, `i2t_median_rank` and the same for `t2i`. Ranks start
        at 1; a wrong answer that scores as well as the right one stands before it.
    """
    visual = torch.nn.functional.normalize(visual.float(), dim=-1)
    text = torch.nn.functional.normalize(text.float(), dim=-1)
    scores = (visual @ text.T).cpu()
    same = same_text_mask(texts)
    figures = {}
    for name, score in (("i2t", scores), ("t2i", scores.T)):
        # the rank of the best right answer among the wrong ones; `not <` counts NaN against it
        right = score.masked_fill(~same, float("-inf")).max(dim=1).values
        rank = 1 + (~(score < right[:, None]) & ~same).sum(dim=1).float()
        figures[f"{name}_recall_at_1"] = (rank <= 1).float().mean().item()
        figures[f"{name}_recall_at_5"] = (rank <= 5).float().mean().item()
        figures[f"{name}_median_rank"] = rank.quantile(0.5).item()
    return figures
