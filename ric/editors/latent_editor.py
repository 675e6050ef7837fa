"""The base of editors that denoise latents: made from a config, recorded in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ric.device import draw_generator
from ric.editors.latent_pictures import LatentPictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

    import torch

    from ric.config import Dtype, EditConfig
    from ric.editors.editor import EditRequest
    from ric.models.pipeline import Pipeline


class LatentEditor:
    """An editor by a pipeline of diffusers; a subclass names its `SETTINGS` and has `edit`.

    Args:
        pipeline: What it runs.
        device: Where it is.
        dtype: `bf16` runs the networks under autocast; `auto` where the device has it.
        image_size: The longer side while editing, in pixels.
        seed: With a request's id it determines all that is drawn for it; a request may have its
            own.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ()  # of `EditConfig`, and attributes of the editor

    def __init__(
        self, pipeline: Pipeline, device: torch.device, *, dtype: Dtype, image_size: int, seed: int
    ) -> None:
        """Hold the pipeline; see the class."""
        self.pipeline, self.device, self.seed = pipeline, device, seed
        self.pictures = LatentPictures(pipeline, device, dtype, image_size)

    @classmethod
    def from_config(
        cls, model: Path, config: EditConfig, device: torch.device, **further: Any
    ) -> Self:
        """Load the pipeline in `model`, and `further` models, with the settings of `ric edit`."""
        names = ("dtype", *cls.SETTINGS, "image_size", "seed")
        settings: dict[str, Any] = {name: getattr(config, name) for name in names}
        return cls(model, device=device, **settings, **further)

    def working_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height a picture is edited at, in pixels."""
        return self.pictures.working_size(width, height)

    def draws(self, requests: Sequence[EditRequest], *keys: int) -> list[torch.Generator]:
        """Return a generator for each request; `keys` tell several of one request apart."""
        return [
            draw_generator(self.seed if one.seed is None else one.seed, "edit", one.id, *keys)
            for one in requests
        ]

    def describe(self) -> dict[str, object]:
        """Return the settings to record beside each edit."""
        return {name: getattr(self, name) for name in self.SETTINGS} | {
            "image_size": self.pictures.image_size,
            "seed": self.seed,
            "dtype": str(self.pictures.dtype).removeprefix("torch."),
        }
