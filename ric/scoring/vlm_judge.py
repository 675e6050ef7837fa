"""A vision-language model that grades edits, asked by any back-end of `ric describe`.

Each question is one request of a describer's `answer`: VIEScore's two, ImgEdit's one. An answer
without its grades is malformed, and asked for again with another seed, `--attempts` times in all;
then the sample fails, and its other scores stay. Every answer is kept in the run's
`judge_answers.jsonl` as soon as it is there, under a digest of the judge, the prompt as it was sent
and the pixels that were shown, so that a resumed evaluation asks nothing twice, and two editors
with the same picture share one answer.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ric.describers.describer import OneByOne, load_describer
from ric.describers.judge_settings import describer_settings
from ric.describers.prompt import prompt_hash
from ric.errors import RicError, SampleError
from ric.models.locate import locate
from ric.models.table import uses
from ric.registry import refuse_unknown
from ric.runs.artifacts import public_name
from ric.runs.rows import append_row, writer_name
from ric.scoring.judge_answers import SCORE_OF, grades_of, scores_of
from ric.scoring.judge_prompts import QUESTIONS, judge_prompts_of, questions_of
from ric.scoring.judge_requests import (
    Asked,
    JudgeRequest,
    about,
    digest_of,
    order_of,
    request_for,
)
from ric.scoring.scored_batches import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from ric.config import EvalConfig
    from ric.describers.describer import Describer
    from ric.metrics.pairs import Pair
    from ric.runs.run import RunDir
    from ric.scoring.judge_requests import AskedAbout
    from ric.scoring.kept_samples import KeptSamples

    # what is told of an edit: by question and order, the answer's digest, grades and faults
    Answers = dict[str, dict[str, dict[str, Any]]]

ANSWERS = "judge_answers"  # the kind of the run's rows
STAGE = "judge"  # of a failure


class VlmJudge:
    """Ask a describer about batches of edits, and keep what it answers.

    Args:
        config: Which metrics, in which orders, how often a question is asked.
        describer: The judge.
        prompts: By name, not filled.
        run: Where answers are kept; those of an earlier attempt are read.
        model: The folder of its model; None where it has none here.

    Attributes:
        digest: Changes with the judge, its settings and its prompts.
    """

    def __init__(
        self,
        config: EvalConfig,
        describer: Describer,
        prompts: Mapping[str, str],
        run: RunDir,
        model: Path | None = None,
    ) -> None:
        """Read the answers of earlier attempts."""
        self.config, self.describer, self.prompts = config, describer, prompts
        self.questions = questions_of(config)
        self._by = _stamp(config, model)
        self.digest = digest_of(self._by, *prompts, *prompts.values())
        self._file = run.path / f"{ANSWERS}-{writer_name()}.jsonl"
        self._kept: dict[str, dict[str, Any]] = {}
        for row in run.rows(ANSWERS):
            if row.get("by") == self._by and isinstance(row.get("digest"), str):
                self._kept[row["digest"]] = row

    def grade(
        self,
        shown: Mapping[str, Sequence[Pair]],
        suites: Mapping[str, KeptSamples],
        between_steps: Callable[[], None],
    ) -> list[SampleError]:
        """Grade a batch, and add to each sample's row its scores and what was answered.

        A row gets the metrics, and as `judge` the digest of what was shown (`shown`) and, by
        question and order (`in_order`, `swapped`), each answer's digest, grades and faults.

        Args:
            shown: The pairs of each label.
            suites: Those of the same labels, which hold the rows.
            between_steps: Called often; raises if the command is to stop.

        Returns:
            A failure for each sample that lacks a readable answer.

        Raises:
            RicError: the judge can answer nothing further.
        """
        hashes: dict[int, str] = {}
        pairs = {
            (label, pair.id): about(pair, hashes) for label, some in shown.items() for pair in some
        }
        requests = self._requests(pairs)
        todo = {
            one.digest: one
            for one in requests.values()
            if one is not None and one.digest not in self._kept
        }
        reasons = self._ask(list(todo.values()), between_steps)
        for (label, name), answers in self._told(pairs, requests).items():
            about_it = {"shown": pairs[label, name].digest, **answers}
            suites[label].fill({name: {**_scores(answers), "judge": about_it}})
        lacking: dict[str, list[tuple[Asked, str]]] = {}
        for asked, request in requests.items():
            if request and self._kept.get(request.digest, {}).get("grades") is None:
                why = reasons.get(request.digest, f"see {ANSWERS}.jsonl")
                lacking.setdefault(asked.id, []).append((asked, why))
        return [SampleError(name, STAGE, _lack(some)) for name, some in lacking.items()]

    def _requests(
        self, pairs: Mapping[tuple[str, str], AskedAbout]
    ) -> dict[Asked, JudgeRequest | None]:
        requests = {}
        for (label, name), of in pairs.items():
            for question in self.questions:
                both = self.config.judge_swap and QUESTIONS[question].shows_source
                for swapped in (False, True) if both else (False,):
                    asked = Asked(label, name, question, swapped)
                    requests[asked] = request_for(asked, of, self.prompts, self.config.seed)
        return requests

    def _ask(
        self, requests: Sequence[JudgeRequest], between_steps: Callable[[], None]
    ) -> dict[str, str]:
        """Answer requests, and keep the answers; return why others have none, by digest."""
        again: deque[JudgeRequest] = deque()
        first = iter(requests)
        texts: dict[str, list[str]] = {one.digest: [] for one in requests}
        reasons: dict[str, str] = {}

        def in_turn() -> Iterator[JudgeRequest]:
            while True:
                if again:
                    yield again.popleft()
                elif one := next(first, None):
                    yield one
                else:
                    return

        while True:
            for request, answer in self.describer.answer(in_turn(), between_steps):
                assert isinstance(request, JudgeRequest)  # it is one of those above
                if isinstance(answer, SampleError):
                    reasons[request.digest] = answer.reason
                    continue
                texts[request.digest].append(answer.text)
                grades = grades_of(answer, QUESTIONS[request.question])
                if isinstance(grades, str) and request.attempt < self.config.attempts:
                    again.append(replace(request, refused=(*request.refused, grades)))
                else:
                    self._keep(request, texts[request.digest], grades)
                between_steps()
            if not again:
                return reasons

    def _keep(self, request: JudgeRequest, texts: list[str], grades: Sequence[float] | str) -> None:
        faults = [*request.refused, *([grades] if isinstance(grades, str) else [])]
        row = {
            "id": request.sample.id,
            "what": f"{request.what} {request.digest} {self._by}",
            "digest": request.digest,
            "by": self._by,
            "prompt": prompt_hash(self.prompts[request.prompt_name]),
            "answers": texts,
            "faults": faults,
            "grades": None if isinstance(grades, str) else list(grades),
        }
        append_row(self._file, row)
        self._kept[request.digest] = row

    def _told(
        self,
        pairs: Mapping[tuple[str, str], AskedAbout],
        requests: Mapping[Asked, JudgeRequest | None],
    ) -> dict[tuple[str, str], Answers]:
        """Put answers together by label and sample."""
        told: dict[tuple[str, str], Answers] = {key: {} for key in pairs}
        for asked, request in requests.items():
            if request is None:
                continue
            row = self._kept.get(request.digest, {})
            told[asked.label, asked.id].setdefault(asked.question, {})[order_of(asked)] = {
                "answer": request.digest,
                "grades": row.get("grades"),
                "faults": row.get("faults", []),
            }
        return told


def _lack(lacking: Sequence[tuple[Asked, str]]) -> str:
    """Say in a line which questions about a sample have no readable answer, and why."""
    questions: dict[str, dict[str, None]] = {}
    for asked, _ in lacking:
        questions.setdefault(asked.label, {})[asked.question] = None
    about_them = ", ".join(f"{label} ({', '.join(some)})" for label, some in questions.items())
    why = "; ".join(dict.fromkeys(why for _, why in lacking))
    return f"no readable answer about {about_them}: {why}"


def _scores(answers: Answers) -> dict[str, float | None]:
    """Return the metrics of one edit; of two orders the mean, and None where one is missing."""
    found: dict[str, float | None] = {}
    for question, orders in answers.items():
        grades = [told["grades"] for told in orders.values()]
        scores = [SCORE_OF[question](one) for one in grades if one is not None]
        found[question] = sum(scores) / len(scores) if len(scores) == len(orders) else None
    return scores_of(found)


def _stamp(config: EvalConfig, model: Path | None) -> str:
    """Name all that decides an answer beside prompt and pictures, in 16 hex digits."""
    settings = ("judge", "judge_model", "seed", "judge_dtype", "load_in", "max_new_tokens")
    told = [str(getattr(config, name)) for name in (*settings, "attempts", "sent_pixels")]
    places = [model, config.judge.rpartition(":")[0]]  # its weights, and the file of one of yours
    return digest_of(*told, *(stamp(place) for place in places if place))


def open_judge(config: EvalConfig, run: RunDir, device: torch.device) -> VlmJudge | None:
    """Load the judge and record it in `run`; None where no metric needs one.

    Raises:
        RicError: a prompt or the model cannot be loaded, or the model reads no prompt.
    """
    if not questions_of(config):
        return None
    refuse_unknown("judge", config.judge)
    prompts = judge_prompts_of(config)
    model = locate(config, "judge_model", run) if uses(config, "judge_model") else None
    describer = load_describer(config.judge, model, describer_settings(config), device)
    if isinstance(describer, OneByOne) or not describer.reads_prompt:
        raise RicError(
            f"--judge {config.judge} cannot be asked for scores: it reads no prompt.",
            "Choose a vision-language model that chats; one of yours has an `answer` that reads"
            " `request.prompt`.",
        )
    run.note(
        judge={
            "back_end": public_name(config.judge),
            "model": public_name(config.judge_model),
            "revision": run.record.get("weights", {}).get("judge", {}).get("revision"),
            "seed": config.seed,
            "swapped": config.judge_swap,
            "prompts": {
                name: {"sha256": prompt_hash(text), "text": text} for name, text in prompts.items()
            },
        }
    )
    return VlmJudge(config, describer, prompts, run, model)
