"""What a describer is, and how one is loaded by name. A new one is a file and a row here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ric.errors import RicError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample


class Describer(Protocol):
    """Writes one paragraph about the edited picture of a sample."""

    def describe(self, sample: EditSample) -> str:
        """Return the paragraph; SampleError when this sample cannot be described."""


def load_describer(
    name: str, model: Path | None, config: DescribeConfig, device: torch.device
) -> Describer:
    """Load the describer called `name`.

    Args:
        name: `dataset` or `chat`.
        model: The folder of the chat's model; None for a describer that has none.
        config: The command's settings.
        device: Where the model runs.

    Raises:
        RicError: there is no such describer, or its model cannot be loaded.
    """
    if name == "dataset":
        from ric.describers.from_dataset import FromDataset

        return FromDataset()
    if name == "chat" and model is not None:
        from ric.describers.chat_vlm import ChatVlm

        return ChatVlm(
            model, device=device, dtype=config.dtype, max_new_tokens=config.max_new_tokens
        )
    raise RicError(f"There is no describer {name!r}.", "There are: dataset, chat.")
