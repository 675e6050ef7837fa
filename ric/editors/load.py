"""Load an editor by name. A new one is a file here and a row of `registry.EDITORS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ric.registry import load_part

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ric.config import EditConfig
    from ric.editors.editor import Editor


def load_editor(
    name: str,
    model: Path | None,
    config: EditConfig,
    device: torch.device,
    **further: Path,
) -> Editor:
    """Load the editor called `name`.

    Args:
        name: A name that `ric.registry` describes.
        model: The folder of its model; None where it needs none.
        config: The command's settings.
        device: Where it runs.
        further: The folders of its further models, by the settings that name them.

    Raises:
        RicError: there is no such editor, or its model cannot be loaded.
    """
    return cast("Editor", load_part("editor", name)(model, config, device, **further))
