"""Asking a describer about samples, without a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ric.config import What
from ric.data.edit_sample import EditSample
from ric.describers.describer import Describer
from ric.describers.prompt import PROMPTS, filled
from ric.describers.quality import Answer
from ric.describers.requests import Request, picture_of
from ric.errors import SampleError


def request_for(sample: EditSample, what: What = "scene", **changes: Any) -> Request:
    """Ask for a text, as `ric describe` does."""
    prompt = filled(PROMPTS[what], sample.instruction)
    image = picture_of(what, changes.pop("image", "target"))
    return Request(sample, what, prompt, image, **changes)


def answers(describer: Describer, requests: Sequence[Request]) -> list[Answer | SampleError]:
    """Answer requests; give the answers in the order of the requests."""
    found = list(describer.answer(requests, lambda: None))
    assert len(found) == len(requests)
    return [next(answer for one, answer in found if one is request) for request in requests]


def scene_text(describer: Describer, sample: EditSample) -> str:
    """Describe one sample's target (raises SampleError if that fails)."""
    (answer,) = answers(describer, [request_for(sample)])
    if isinstance(answer, SampleError):
        raise answer
    return answer.text
