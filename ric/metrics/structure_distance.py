"""Structure distance: how much two pictures' self-similarities differ (Tumanyan et al. 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize
from torchvision.transforms.functional import resize
from transformers import ViTModel

from ric.metrics.dino_similarity import MEAN, STD
from ric.metrics.networks import exact_inference, load_folder, published_marker
from ric.metrics.resize_rules import levels
from ric.metrics.resize_rules import normalise as by_channel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL import Image

PUBLISHED = "facebook/dino-vitb8"  # PnPInversion's matrics_calculator.py: torch.hub's dino_vitb8
SHORT_SIDE, LONG_SIDE = 224, 480  # pixels


class StructureDistance:
    """Cosines between a picture's places, by the keys of a transformer's last layer.

    Pictures go in as PnPInversion's script feeds them: the short side to 224 (the long one at most
    480) as a tensor, antialiased as torchvision does since 0.17, and normalised at levels of 0 to
    255 by ImageNet's mean and std, which are meant for 0 to 1. Published numbers have that scale.

    Args:
        path: A folder with a transformers `ViTModel` (safetensors).
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions; None takes the folder's name.

    Raises:
        RicError: the folder holds no such model.
    """

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        self.model: ViTModel = load_folder(
            ViTModel, path, device, kind="network", add_pooling_layer=False
        )
        self.device = torch.device(device)
        self.marker = published_marker(encoder or Path(path).name, PUBLISHED)
        self.definition = (
            f"mean squared difference of the self-similarity of the last keys of "
            f"{encoder or Path(path).name}; short side {SHORT_SIDE}, levels of 0 to 255 normalised"
        )
        keys = [layer for name, layer in self.model.named_modules() if name.endswith("k_proj")]
        self._last_keys: nn.Module = keys[-1]

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture's levels, float32 (3, H, W) of the size that the transformer sees."""
        return resize(levels(image), [SHORT_SIDE], max_size=LONG_SIDE, antialias=True)

    def self_similarities(self, prepared: Sequence[Tensor]) -> Iterable[Tensor]:
        """Return for each prepared picture the cosines (T, T) of its T tokens' keys, on the CPU."""
        # one at a time: pictures differ in shape, and so in tokens
        return [self._self_similarity(pixels_CHW) for pixels_CHW in prepared]

    @exact_inference()
    def _self_similarity(self, pixels_CHW: Tensor) -> Tensor:
        pixels_BCHW = by_channel(pixels_CHW[None].to(self.device), MEAN, STD)
        held: list[Tensor] = []
        hook = self._last_keys.register_forward_hook(lambda *passed: held.append(passed[2]))
        try:
            self.model(pixels_BCHW, interpolate_pos_encoding=True)
        finally:
            hook.remove()
        keys_TD = normalize(held[0][0], dim=-1)
        return (keys_TD @ keys_TD.T).cpu()


def structure_distance(a: Tensor, b: Tensor) -> float:
    """Return the mean squared difference of two self-similarities (T, T)."""
    return float(mse_loss(a, b))
