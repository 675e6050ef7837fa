"""Loading an editor by name. A new one is a file and a row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.errors import RicError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ric.config import EditConfig
    from ric.editors.editor import Editor


def load_editor(name: str, model: Path, config: EditConfig, device: torch.device) -> Editor:
    """Load the editor called `name` with the pipeline in `model`.

    Raises:
        RicError: there is no such editor, or its model cannot be loaded.
    """
    if name == "ip2p":
        from ric.editors.instruct_pix2pix import InstructPix2Pix

        return InstructPix2Pix(
            model,
            device=device,
            dtype=config.dtype,
            steps=config.steps,
            guidance=config.guidance,
            image_guidance=config.image_guidance,
            image_size=config.image_size,
            seed=config.seed,
        )
    raise RicError(f"There is no editor {name!r}.", "There is: ip2p.")
