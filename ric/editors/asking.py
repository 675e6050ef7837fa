"""Asking an editor for its pictures: one of your own may do anything, and the batch goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from ric.errors import RicError, SampleError, first_line
from ric.registry import EDITORS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ric.editors.editor import Editor, EditRequest

Answer = Image.Image | SampleError | None


def ask(
    editor: Editor, name: str, requests: Sequence[EditRequest], between_steps: Callable[[], None]
) -> Sequence[Answer]:
    """Return a picture for each request, or why there is none.

    What an editor of ric's own raises is raised. Where yours raises, or returns another number of
    pictures, it is asked for one at a time, so that only those that it cannot edit fail.

    Args:
        editor: The editor.
        name: Its name, as typed.
        requests: A batch.
        between_steps: As `Editor.edit`.
    """
    if not requests:
        return []
    if name in EDITORS:
        return editor.edit(requests, between_steps)
    made = _answers(editor, requests, between_steps)
    if isinstance(made, str) and len(requests) > 1:
        return [one for request in requests for one in ask(editor, name, [request], between_steps)]
    if isinstance(made, str):
        return [SampleError(requests[0].id, "edited", made)]
    return [_checked(answer, request.id) for answer, request in zip(made, requests, strict=True)]


def _answers(
    editor: Editor, requests: Sequence[EditRequest], between_steps: Callable[[], None]
) -> list[Answer] | str:
    """Return what an editor returns, one answer per request, or what is wrong."""
    try:
        made = list(editor.edit(requests, between_steps))
    except RicError as error:
        return f"{error.message} {error.hint or ''}".strip()
    except Exception as error:  # the code of others may raise anything
        return f"The editor raised {type(error).__name__}: {first_line(error)}"
    if len(made) != len(requests):
        return f"The editor returned {len(made)} pictures for {len(requests)}."
    return made


def _checked(answer: object, name: str) -> Answer:
    if answer is None or isinstance(answer, Image.Image | SampleError):
        return answer
    kind = type(answer).__name__
    return SampleError(name, "edited", f"The editor returned a {kind}, not a picture of Pillow's.")
