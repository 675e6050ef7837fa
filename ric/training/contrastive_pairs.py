"""Eq. 11 over one batch of pairs, split among processes and into micro-batches (Sec. 3.2.1).

Eq. 11 compares every pair with every other, so a batch cannot be split as that of a mean over
samples can. The embeddings can (gradient caching, Gao et al. 2021): each process embeds its share,
`--micro-batch` pairs at a time; all of them together give Eq. 11 and each embedding's gradient;
every process carries its share's gradients on to the weights, where they add up. What is split
into micro-batches is embedded twice, first without a graph.

Pairs with the same text are not negatives of each other. Sources can be negatives of their own
targets' texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import torch

from ric.device import autocast
from ric.method.losses import same_text_mask, symmetric_contrastive_loss
from ric.metrics.retrieval import retrieval

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ric.distributed import Ranks
    from ric.inputs.examples import Example
    from ric.method.judge import Judge

# Shape letters: N pairs of the whole batch, D width of the embeddings.

T = TypeVar("T", "Sequence[Example]", "Tensor")
# by a judge of some examples: visual and text embeddings and, where sources are negatives, theirs:
# (N, D) each
Embed: TypeAlias = "Callable[[Any, Sequence[Example]], tuple[Tensor, ...]]"


@dataclass(frozen=True)
class Pairs:
    """How examples become embeddings, a loss with its gradient, and retrieval figures.

    Attributes:
        judge: What embeds them; holds tau.
        embed: Gives the judge's visual and text embeddings of some examples, (N, D) each; also
            their sources', where these are to be told from the targets.
        text_of: Gives an example's text.
        device: Where the judge is.
        dtype: What its networks compute in.
        at_once: How many pairs' graph is held; at least 1.
        ranks: The processes that share a batch.
        told_from_sources: Whether `embed` gives sources too.
    """

    judge: Judge
    embed: Embed
    text_of: Callable[[Example], str]
    device: torch.device
    dtype: torch.dtype
    at_once: int
    ranks: Ranks
    told_from_sources: bool = False

    def backward(self, batch: Sequence[Example]) -> Tensor:
        """Go forward and back through Eq. 11 of one batch.

        Args:
            batch: All N pairs, the same in every process.

        Returns:
            The loss, the same in every process, as are the gradients that are left in the judge.
        """
        mine = self.ranks.share(len(batch))
        pieces = list(_split(batch[mine], self.at_once))
        once = len(pieces) == 1
        with torch.set_grad_enabled(once):
            embedded = [self._embed(some) for some in pieces]
        sides = [
            self._gather([pair[side] for pair in embedded], mine, len(batch))
            for side in range(3 if self.told_from_sources else 2)
        ]
        loss = self.loss(batch, *sides)
        loss.backward()  # to the embeddings, and to tau
        gradients = [_split(cast("Tensor", rows.grad)[mine], self.at_once) for rows in sides]
        for some, *of_both in zip(pieces, *gradients, strict=True):
            again = embedded[0] if once else self._embed(some)
            for rows, gradient in zip(again, of_both, strict=True):
                if rows.requires_grad:  # phase 1 leaves the text tower alone
                    rows.backward(gradient.to(rows.dtype))
        self._add_up_gradients()
        return loss.detach()

    def loss(
        self,
        batch: Sequence[Example],
        visual: Tensor,
        text: Tensor,
        source: Tensor | None = None,
    ) -> Tensor:
        """Give Eq. 11 of the embeddings (N, D) of a batch's N pairs."""
        same_text = self._same_text(batch)
        return symmetric_contrastive_loss(
            visual, text, self.judge.temperature, same_text=same_text, source=source
        )  # Eq. 11

    @torch.no_grad()
    def measure(self, examples: Sequence[Example]) -> dict[str, float]:
        """Embed some examples, in this process alone, and give their `retrieval`."""
        rows = [self._embed(some) for some in _split(examples, self.at_once)]
        visual, text, *source = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return retrieval(visual, text, self._same_text(examples), *source)

    def _same_text(self, items: Sequence[Example]) -> Tensor:
        return same_text_mask([self.text_of(item) for item in items])

    def _embed(self, items: Sequence[Example]) -> tuple[Tensor, ...]:
        with autocast(self.device, self.dtype):
            return self.embed(self.judge, items)

    def _gather(self, parts: Sequence[Tensor], mine: slice, count: int) -> Tensor:
        """Collect all N embeddings from all processes: (N, D) that takes a gradient."""
        rows_ND = torch.zeros(count, self.judge.width, device=self.device)
        if parts:
            rows_ND[mine] = torch.cat([part.detach() for part in parts]).float()
        return self.ranks.all_reduce(rows_ND).requires_grad_()

    def _add_up_gradients(self) -> None:
        """Add the processes' gradients; tau's is that of the whole batch in each already."""
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
    """Cut a sequence or a tensor into pieces of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
