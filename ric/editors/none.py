"""The editor that does nothing: what every other one is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.editors.editor import never_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from PIL.Image import Image

    from ric.config import EditConfig
    from ric.editors.editor import EditRequest


class NoEdit:
    """Return every source as it is; no model is loaded.

    Args:
        model: None.
        config: Not read.
        device: Not used.
    """

    def __init__(self, model: None, config: EditConfig, device: torch.device) -> None:
        """Accept the arguments of every editor and ignore them."""

    def edit(
        self, requests: Sequence[EditRequest], between_steps: Callable[[], None] = never_stop
    ) -> list[Image | None]:
        """Return the sources themselves."""
        return [request.image for request in requests]

    def describe(self) -> dict[str, object]:
        """Return nothing: there are no settings."""
        return {}
