"""`ric describe`: texts about every sample; by default of its target (Sec. 3.2.3)."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from ric.config import TEXT_OF
from ric.data.sample import PicturesNeededError
from ric.describers.describer import load_describer
from ric.describers.prompt import filled, prompt_hash, prompts_of
from ric.describers.quality import EMPTY, fault_of, note_on
from ric.describers.requests import Request, picture_of
from ric.device import pick_device
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.models.locate import locate
from ric.models.table import uses
from ric.preflight.data import instructed_kinds, needs_instruction
from ric.progress import Progress, Silent
from ric.runs.rows import key_of
from ric.runs.samples import is_in_shard, open_samples, some_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from ric.config import DescribeConfig, What
    from ric.data.sample import Samples
    from ric.describers.describer import Describer
    from ric.describers.quality import Answer
    from ric.progress import Stage
    from ric.runs.run import RunDir

QUALITY = "quality"  # the stage of a failure: every answer had a fault


def describe(config: DescribeConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Describe every sample of DATA; return the run's `descriptions.jsonl`, a row for each text.

    Texts already written are skipped, and several processes may share one run. A stop is honoured
    between texts, and by models between tokens.

    Raises:
        RicError: DATA, a prompt or the model cannot be loaded, there is no sample, or a server
            cannot be reached.
        Interrupted: a stop was requested; finished texts are kept.
    """
    progress = progress or Silent()
    prompts = prompts_of(config)
    model = locate(config, "model", run) if uses(config, "model") else None
    describer = load_describer(config.describer, model, config, pick_device(config.device))
    _keep_prompts(prompts, describer, run)
    instructed = instructed_kinds(config, prompts)
    samples = open_samples(config, run, need_instruction=needs_instruction(config))
    done = {_key(row["id"], row.get("what", "scene")) for row in run.rows("descriptions")}
    total, unit = _count(config, samples, len(prompts)), "texts" if len(prompts) > 1 else "samples"
    again: deque[Request] = deque()
    with (
        stop_between_steps() as stop,
        progress.stage("describing", total=total, done=len(done), unit=unit) as stage,
    ):
        writer = _Writer(config, run, describer, prompts, stage)
        asked = _requests(samples, instructed, writer, done)
        while True:
            for request, answer in describer.answer(_first(again, asked), stop.raise_if_set):
                writer.take(request, answer, again.append)
                stop.raise_if_set()
            if not again:
                break
        stop.raise_if_set()
    if describer.is_model:
        sum_up(run, progress)
    return run.path / "descriptions.jsonl"


def _key(name: str, what: str) -> str:
    return str(key_of({"id": name, "what": what}))


def _first(again: deque[Request], asked: Iterator[Request]) -> Iterator[Request]:
    """Yield what is to be asked again, and then what was not asked yet."""
    while True:
        while again:
            yield again.popleft()
        request = next(asked, None)
        if request is None:
            return
        yield request


def _requests(
    samples: Samples, instructed: Collection[What], writer: _Writer, done: set[str]
) -> Iterator[Request]:
    """Yield the texts that this process writes, claimed (raises RicError if DATA has no sample)."""
    config, run = writer.config, writer.run
    for sample in some_samples(samples, config, run):
        if not is_in_shard(sample.id, config.shard):
            continue
        for what, prompt in writer.prompts.items():
            key = _key(sample.id, what)
            if key in done or not run.claims.take(key):
                continue
            if what in instructed and not sample.instruction:
                reason = f"It has no instruction in {sample.pictures.described_in}."
                writer.fail(what, SampleError(sample.id, "texts", reason))
                continue
            yield Request(
                sample,
                what,
                filled(prompt, sample.instruction),
                picture_of(what, config.image),
                config.seed,
            )


def _count(config: DescribeConfig, samples: Samples, kinds: int) -> int | None:
    """Count the texts, for the bar; None where that would need reading pictures."""
    if config.shard is None:
        count = samples.known_count
    else:
        try:
            count = sum(is_in_shard(name, config.shard) for name in samples.known_ids())
        except PicturesNeededError:
            count = None
    return None if count is None else count * kinds


def _keep_prompts(prompts: Mapping[What, str], describer: Describer, run: RunDir) -> None:
    """Record the prompts; raises RicError if an attempt that is resumed had another one."""
    if not describer.reads_prompt:
        return
    told = {what: {"sha256": prompt_hash(text), "text": text} for what, text in prompts.items()}
    before = run.record.get("prompts", told)
    for what, text in prompts.items():
        first = run.claims.settle(f"prompt {what}", before[what]["sha256"])
        if first != prompt_hash(text):
            raise RicError(
                f"The prompt for {what} has changed since this run began.",
                "Use a new run (omit --run), or restore the prompt.",
            )
    run.note(prompts=told)


class _Writer:
    """Writes answers as rows or failures, and shows the rate.

    Args:
        config: The command's settings.
        run: Gets the rows.
        describer: Whose answers they are.
        prompts: By kind of text, not filled.
        stage: Is advanced by each text.
    """

    def __init__(
        self,
        config: DescribeConfig,
        run: RunDir,
        describer: Describer,
        prompts: Mapping[What, str],
        stage: Stage,
    ) -> None:
        self.config, self.run, self.describer, self.stage = config, run, describer, stage
        named = uses(config, "model") or config.describer == "openai"
        self.made_by = {"describer": config.describer, "model": config.model if named else None}
        self.prompts = prompts
        self.began, self.tokens = time.monotonic(), 0

    def take(
        self, request: Request, answer: Answer | SampleError, ask_again: Callable[[Request], None]
    ) -> None:
        """Keep an answer, or have it asked for again, or record that there is none."""
        if isinstance(answer, SampleError):
            self.fail(request.what, answer)
            return
        self.tokens += answer.tokens
        fault = self._fault(answer)
        if fault is None:
            self._keep(request, answer)
        elif request.attempt < self.config.attempts:
            ask_again(request.asked_again(fault))
        else:
            faults = (*request.refused, fault)
            reason = f"no answer of {len(faults)} can be used: {', '.join(faults)}"
            error = SampleError(request.sample.id, QUALITY, reason)
            self.fail(request.what, error, refused=list(faults))

    def fail(self, what: What, error: SampleError, **about: Any) -> None:
        """Record that there is no text of a kind."""
        self.run.fail(error, what=what, **about)
        self.stage.advance()

    def _fault(self, answer: Answer) -> str | None:
        if not self.describer.is_model:
            return None
        fault = fault_of(answer)
        return fault if self.config.quality_gates or fault == EMPTY else None

    def _keep(self, request: Request, answer: Answer) -> None:
        sample, what = request.sample, request.what
        text = " ".join(answer.text.split()) if self.describer.is_model else answer.text
        row: dict[str, Any] = {"id": sample.id, "what": what, TEXT_OF[what]: text}
        row |= {"instruction": sample.instruction, **self.made_by}
        row["prompt"] = prompt_hash(self.prompts[what]) if self.describer.reads_prompt else None
        if request.refused:
            row["refused"] = list(request.refused)
        after = request.image == "target" or what == "target-caption"
        if self.describer.is_model and after and (note := note_on(text, what, sample.instruction)):
            row["note"] = note
        self.run.append("descriptions", row)
        rate = self.tokens / max(time.monotonic() - self.began, 1e-9)
        self.stage.advance(1, **({"tokens/s": rate} if self.tokens else {}))


def sum_up(run: RunDir, progress: Progress) -> None:
    """Count the answers that were refused and the notes, in run.json and in a line."""
    refused: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    again = failed = 0
    for row in run.rows("descriptions"):
        refused.update(row.get("refused", ()))
        notes.update(filter(None, [row.get("note")]))
        again += "refused" in row
    for row in run.rows("failures"):
        refused.update(row.get("refused", ()))
        failed += row.get("stage") == QUALITY
    found = {"refused": dict(refused), "notes": dict(notes), "again": again, "failed": failed}
    run.note(quality=found)
    if refused:
        counts = ", ".join(f"{fault} {count}" for fault, count in refused.most_common())
        progress.note(
            f"{refused.total()} answers were refused ({counts}): {again} texts were asked for again"
            f" and written, {failed} failed"
        )
    for note, count in notes.items():
        progress.note(f"{count} texts: {note} (note in descriptions.jsonl)")
