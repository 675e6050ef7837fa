"""The work of `ric eval`: batches of samples to scores on disk, alone or beside other processes.

Batches are fixed by the list of samples, whoever scores them: the last bits of a network's output
for a picture depend on the others in its batch. So scores are the same to the bit however many
processes there are, on CPUs of one kind, and wherever they were stopped.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, count, islice
from typing import TYPE_CHECKING

from ric.data.drawn_scenes import is_scenes
from ric.interrupt import stop_between_steps
from ric.scoring.encode_once import Encodings
from ric.scoring.matching import decode_outputs, decoded_ahead
from ric.scoring.picture_files import with_edited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor

    from PIL import Image

    from ric.config import EvalConfig
    from ric.data.edit_sample import EditSample
    from ric.errors import SampleError
    from ric.metrics.pairs import Pair
    from ric.scoring.matching import Decoded, Output
    from ric.scoring.outputs import Outputs
    from ric.scoring.scored_batches import ScoredBatches
    from ric.scoring.vlm_judge import VlmJudge
    from ric.scoring.write_tables import Suite
    from ric.work import Work

IDENTITY, GROUND_TRUTH = "Identity (source)", "Ground truth"
WAIT_FOR_OTHERS = 0.5  # seconds


@dataclass
class Scoring:
    """One process's work on an evaluation.

    Attributes:
        config: The settings.
        work: The samples, the run, and the processes that a launcher started.
        edited: The outputs to score.
        suites: The metric suites of editors, source and ground truth, by label.
        stored: Where finished batches are.
        judge: Grades pictures; None without one.
        threads: How many decode, and as many prepare pictures for the networks.
        ids: All samples, in the order of their batches.
        awaited: The numbers of batches that another process had taken.
    """

    config: EvalConfig
    work: Work
    edited: Sequence[Outputs]
    suites: dict[str, Suite]
    stored: ScoredBatches
    judge: VlmJudge | None
    threads: int
    ids: Sequence[str]
    awaited: set[int] = field(default_factory=set)

    @cached_property
    def known(self) -> set[str]:
        """The samples of which an earlier attempt, or another process, had all scores."""
        return self.stored.done()

    def score_mine(self) -> None:
        """Score this process's batches, and store the results.

        Processes of a launcher divide them by their ranks; those that only share the run take them
        one by one, each the next that is free.
        """

        def is_mine(number: int, ids: Sequence[str]) -> bool:
            ranks = self.work.ranks
            if self.known.issuperset(ids):
                return False
            if ranks.count > 1:
                return number % ranks.count == ranks.number
            if not self.work.run.shared or self._take(number):
                return True
            self.awaited.add(number)
            return False

        ranks = self.work.ranks
        batches = -(-len(self.ids) // self.config.batch_size)
        self._score(is_mine, range(ranks.number, batches, ranks.count))

    def _take(self, number: int) -> bool:
        """Claim a batch; False where it is another's, or was scored meanwhile."""
        # asked in this order: a process that ends has stored its batches before it leaves
        taken = self.work.run.claims.take(f"\n{self.stored.key} {number}")
        return taken and not self.stored.has(number)

    def score_the_rest(self) -> None:
        """Wait for the batches of other processes; score what those that died had begun.

        A batch that was damaged since is scored again, too: its process does not look at it again.
        """
        missing, told = set(self.awaited), False
        while missing := {number for number in missing if not self.stored.has(number)}:
            free = {n for n in missing if self._take(n) or self.stored.is_damaged(n)}
            if free:
                self._score(lambda number, ids, free=free: number in free, free)  # type: ignore[misc]
                continue
            if not told:
                count = len(missing)
                self.work.progress.note(f"Waiting for {count} batches of other processes.")
                told = True
            time.sleep(WAIT_FOR_OTHERS)

    def gather(self) -> None:
        """Load the stored scores of all processes into the suites, and list failures in the run."""
        done = set[str]()
        failures: list[SampleError] = []
        for batch in self.stored.read():
            done |= batch.done
            failures += batch.failures
            for label, kept in batch.kept.items():
                self.suites[label].put(kept)
        for error in failures:
            # a sample that was fixed since has been scored in a later batch
            if error.sample_id not in done:
                self.work.run.fail(error)

    def _score(self, is_chosen: Callable[[int, Sequence[str]], bool], most: Iterable[int]) -> None:
        """Score the batches of the chosen numbers; pictures are decoded ahead, in threads.

        Args:
            is_chosen: Chooses them, by number and ids.
            most: The numbers of all that may be chosen, to be counted.
        """
        numbers: list[int] = []
        todo = chain.from_iterable(self._batches(is_chosen, numbers))
        decode = partial(
            decode_outputs,
            edited=self.edited,
            config=self.config,
            of_scenes=is_scenes(self.config.data),
        )
        progress, known = self.work.progress, self.known
        size = self.config.batch_size
        ids = chain.from_iterable(self.ids[at * size : (at + 1) * size] for at in most)
        total = len(known) + sum(name not in known for name in ids)
        with (
            stop_between_steps() as stop,
            progress.stage("scoring", total, len(known), unit="samples") as stage,
            ThreadPoolExecutor(self.threads) as pool,
            closing(decoded_ahead(todo, decode, self.threads)) as decoded,
        ):
            for place in count():
                # only the last batch of all is smaller
                if not (batch := list(islice(decoded, self.config.batch_size))):
                    break
                self._score_batch(numbers[place], batch, pool, stop.raise_if_set)
                stage.advance(sum(not one.pair or one.pair.id not in known for one in batch))
                stop.raise_if_set()

    def _batches(
        self, is_chosen: Callable[[int, Sequence[str]], bool], numbers: list[int]
    ) -> Iterator[list[EditSample]]:
        """Yield the chosen batches, and append their numbers among all to `numbers`."""
        samples: Iterable[EditSample] = iter(self.work.samples)
        for number in count():
            if not (batch := list(islice(samples, self.config.batch_size))):
                return
            if is_chosen(number, [sample.id for sample in batch]):
                numbers.append(number)
                yield batch

    def _score_batch(
        self,
        number: int,
        batch: Sequence[Decoded],
        pool: Executor,
        between_steps: Callable[[], None],
    ) -> None:
        shown = self._by_networks(batch, pool)
        failures = [error for one in batch for error in one.failures]
        if self.judge:
            failures += self.judge.grade(shown, self.suites, between_steps)
        ids = [one.pair.id for one in batch if one.pair]
        kept = {label: suite.take() for label, suite in self.suites.items()}
        self.stored.write(number, ids, kept, failures)

    def _by_networks(self, batch: Sequence[Decoded], pool: Executor) -> dict[str, list[Pair]]:
        """Score a batch by every network; return the pairs of each label."""
        scored: dict[str, list[Pair]] = {}
        encodings = Encodings(pool)
        read = [(one.pair, one.outputs) for one in batch if one.pair]
        # samples that some editor lacks are dropped at the end: an editor may turn out to have none
        shown = [pair for pair, made in read if made]
        for label, suite in self.suites.items():
            if label == IDENTITY:
                pairs = shown
            elif label == GROUND_TRUTH:
                pairs = [_of_truth(pair, pair.target) for pair in shown if pair.target]
            else:
                pairs = [_of_output(pair, made[label]) for pair, made in read if label in made]
            suite.add(pairs, encodings)
            scored[label] = pairs
        encodings.complete()
        return scored


def _of_truth(pair: Pair, target: Image.Image) -> Pair:
    """Return the pair in which the target is the edit."""
    return replace(pair, edited=target, files=with_edited(pair.files, pair.files.get("target")))


def _of_output(pair: Pair, made: Output) -> Pair:
    """Return the pair of an editor's picture."""
    files = with_edited(pair.files, made.shown)
    return replace(pair, edited=made.picture, profile_apart=made.profile_apart, files=files)
