"""Load an editor by name. A new one is a file here and a row of `registry.EDITORS`.

A setting that no other editor has is also a field of `config.EditConfig`, and a setting that names
a model a row of `models.table`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ric.errors import RicError, first_line
from ric.registry import EDITORS, load_part

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
    make = load_part("editor", name)
    if name in EDITORS:
        return cast("Editor", make(model, config, device, **further))
    try:
        return cast("Editor", make(model, config, device))
    except RicError:
        raise
    except Exception as error:  # the code of others may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise RicError(
            f"The editor {name} cannot be made: {reason}",
            "It is called with the folder of its model (None: none), the settings and the device.",
        ) from error
