"""Eq. 11 over one batch of pairs, split among processes and into micro-batches (Sec. 3.2.1).

Eq. 11 compares every pair with every other, so the loss cannot be split as a mean over samples
can. The embeddings can (gradient caching, Gao et al. 2021): each process embeds its share,
`--micro-batch` pairs at a time; Eq. 11 and each embedding's gradient are computed on all of them;
every process backpropagates its share's gradients to the weights, where they add up. A batch that
is split into micro-batches is embedded twice, first without a graph.

Pairs with the same text are not negatives of each other. Each pair may have a further picture, such
as its source, that is a negative of its own text, and a further text, a negative of its picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import torch

from ric.device import autocast
from ric.method.losses import Negative, same_text_mask, symmetric_contrastive_loss
from ric.metrics.retrieval import retrieval, share_above
from ric.training.further_negatives import WRONG_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from ric.distributed import Ranks
    from ric.inputs.examples import Example
    from ric.method.judge import Judge

# Shape letters: N pairs of the whole batch, D width of the embeddings.

T = TypeVar("T", "Sequence[Example]", "Tensor")
# (judge, examples) to visual and text embeddings and those of further negatives: (N, D) each
Embed: TypeAlias = "Callable[[Any, Sequence[Example]], tuple[Tensor, ...]]"


@dataclass(frozen=True)
class Pairs:
    """Turns examples into embeddings, a loss with its gradient, and retrieval figures.

    Attributes:
        judge: Embeds them; holds tau.
        embed: Returns the judge's visual and text embeddings of examples, (N, D) each, and then
            those of each of `further`, in its order.
        text_of: Returns an example's text.
        device: The judge's device.
        dtype: What its networks compute in.
        at_once: The micro-batch: how many pairs have their graph in memory; at least 1.
        ranks: The processes that share a batch.
        further: The further negatives by name, at most one picture such as `source`, and
            `WRONG_TEXT`; each with whether an example has one that counts.
    """

    judge: Judge
    embed: Embed
    text_of: Callable[[Example], str]
    device: torch.device
    dtype: torch.dtype
    at_once: int
    ranks: Ranks
    further: Mapping[str, Callable[[Example], bool]] = field(default_factory=dict)

    def backward(self, batch: Sequence[Example]) -> Tensor:
        """Run the forward and backward pass of Eq. 11 for one batch.

        Args:
            batch: All N pairs, the same in every process.

        Returns:
            The loss, the same in every process, as are the gradients left in the judge.
        """
        mine = self.ranks.share(len(batch))
        micro_batches = list(_split(batch[mine], self.at_once))
        once = len(micro_batches) == 1
        with torch.set_grad_enabled(once):
            embedded = [self._embed(some) for some in micro_batches]
        sides = [
            self._gather([pair[side] for pair in embedded], mine, len(batch))
            for side in range(2 + len(self.further))
        ]
        loss = self.loss(batch, *sides)
        loss.backward()  # to the embeddings, and to tau
        gradients = [_split(cast("Tensor", rows.grad)[mine], self.at_once) for rows in sides]
        for some, *of_both in zip(micro_batches, *gradients, strict=True):
            again = embedded[0] if once else self._embed(some)
            for rows, gradient in zip(again, of_both, strict=True):
                if rows.requires_grad:  # phase 1 leaves the text tower alone
                    rows.backward(gradient.to(rows.dtype))
        self._add_up_gradients()
        return loss.detach()

    def loss(
        self, batch: Sequence[Example], visual: Tensor, text: Tensor, *further: Tensor
    ) -> Tensor:
        """Compute Eq. 11 from the embeddings (N, D) of a batch's N pairs and their `further`."""
        negatives = {
            name: Negative(rows, torch.tensor([counts(item) for item in batch]))
            for (name, counts), rows in zip(self.further.items(), further, strict=True)
        }
        wrong_text = negatives.pop(WRONG_TEXT, None)
        return symmetric_contrastive_loss(
            visual,
            text,
            self.judge.temperature,
            same_text=self._same_text(batch),
            negative=next(iter(negatives.values()), None),
            wrong_text=wrong_text,
        )  # Eq. 11

    @torch.no_grad()
    def measure(self, examples: Sequence[Example]) -> dict[str, float]:
        """Embed examples, in this process alone, and return their `retrieval` figures."""
        rows = [self._embed(some) for some in _split(examples, self.at_once)]
        visual, text, *further = (torch.cat(parts) for parts in zip(*rows, strict=True))
        figures = retrieval(visual, text, self._same_text(examples))
        for (name, counts), negative in zip(self.further.items(), further, strict=True):
            which = torch.tensor([counts(item) for item in examples], device=visual.device)
            if which.any():
                # a wrong text is compared with its picture, a wrong picture with its text
                pair = (text, visual) if name == WRONG_TEXT else (visual, text)
                figures[f"above_{name}"] = share_above(*pair, negative, which)
        return figures

    def _same_text(self, items: Sequence[Example]) -> Tensor:
        return same_text_mask([self.text_of(item) for item in items])

    def _embed(self, items: Sequence[Example]) -> tuple[Tensor, ...]:
        with autocast(self.device, self.dtype):
            return self.embed(self.judge, items)

    def _gather(self, parts: Sequence[Tensor], mine: slice, count: int) -> Tensor:
        """Gather all N embeddings from all processes: a leaf (N, D) that requires a gradient."""
        rows_ND = torch.zeros(count, self.judge.width, device=self.device)
        if parts:
            rows_ND[mine] = torch.cat([part.detach() for part in parts]).float()
        return self.ranks.all_reduce(rows_ND).requires_grad_()

    def _add_up_gradients(self) -> None:
        """All-reduce the gradients; each process already has tau's for the whole batch."""
        if self.ranks.count == 1:
            return
        trained = [
            parameter
            for parameter in self.judge.parameters()
            if parameter.requires_grad and parameter is not self.judge.logit_scale
        ]
        # a process without a share of a short batch has no gradients of its own
        has_one = torch.tensor([float(parameter.grad is not None) for parameter in trained])
        anywhere = self.ranks.all_reduce(has_one.to(self.device)).tolist()
        for parameter, somewhere in zip(trained, anywhere, strict=True):
            if somewhere:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.ranks.all_reduce(own)


def _split(items: T, size: int) -> Iterator[T]:
    """Cut a sequence or a tensor into parts of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
