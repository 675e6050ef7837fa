"""DINOv2's class tokens: a cosine of two pictures, and features of sets (Oquab et al. 2023).

Both networks were trained at 518 pixels, and see 224 here: their position embeddings, 37 by 37, are
interpolated to 16 by 16. transformers does that without the tenth of a place that Meta's code adds,
so the two give other tokens: the cosine follows the one, FD-DINOv2 (Stein et al. 2023) the other.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize
from transformers import Dinov2Model

from ric.metrics.dino_similarity import MEAN, STD
from ric.metrics.networks import SetFeatures, exact_inference, load_folder, published_marker
from ric.metrics.resize_rules import normalise, resize_and_crop_as_transformers, squash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

SIMILARITY = "facebook/dinov2-base"
FEATURES = "facebook/dinov2-large"  # dgm-eval's default, ViT-L/14
SHORT_SIDE, CROP = 256, 224  # pixels; the preprocessor_config.json of every DINOv2


class Dinov2Similarity:
    """A DINOv2's class token after the final norm, as a unit vector.

    Pictures go in as transformers' own processor feeds them: short side to 256 by PIL's bicubic on
    8-bit pixels, centre crop of 224, ImageNet mean and std.

    Args:
        path: A folder with a transformers `Dinov2Model` (safetensors).
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions; None: the published one's.

    Raises:
        RicError: the folder holds no such model.
    """

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        self.model: Dinov2Model = load_folder(Dinov2Model, path, device, kind="network")
        self.device = torch.device(device)
        self.marker = published_marker(encoder or SIMILARITY, SIMILARITY)
        self.definition = (
            f"cosine of class tokens of {encoder or SIMILARITY}; "
            f"PIL bicubic to {SHORT_SIDE}, centre crop {CROP}"
        )

    def image_embeddings(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (N, W) unit vectors of N pictures of any sizes, on the CPU."""
        return self.embed([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the transformer sees it, 8-bit levels (3, 224, 224)."""
        return resize_and_crop_as_transformers(image, SHORT_SIDE, CROP)

    @exact_inference()
    def embed(self, prepared: Sequence[Tensor]) -> Tensor:
        """Return (N, W) unit vectors of N prepared pictures, on the CPU."""
        return normalize(_class_tokens(self.model, prepared), dim=-1).cpu()


class Dinov2Features:
    """A DINOv2's class tokens, as dgm-eval takes them for FD-DINOv2.

    Pictures are squashed to 224 x 224 by PIL's bicubic on 8-bit pixels; position embeddings are
    interpolated as the model of torch.hub does it.

    Args:
        path: A folder with a transformers `Dinov2Model` (safetensors).
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions; None: the published one's.

    Raises:
        RicError: the folder holds no such model.
    """

    kind = "dgm-eval"

    def __init__(
        self, path: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        self.model: Dinov2Model = load_folder(Dinov2Model, path, device, kind="network")
        embeddings = self.model.embeddings
        places = CROP // self.model.config.patch_size
        learned = embeddings.position_embeddings
        # as many as a picture has patches: transformers then leaves them as they are
        embeddings.position_embeddings = nn.Parameter(
            interpolate_positions(learned, places), requires_grad=False
        )
        self.device = torch.device(device)
        self.marker = published_marker(encoder or FEATURES, FEATURES)
        self.definition = (
            f"class tokens of {encoder or FEATURES}, PIL bicubic to {CROP} x {CROP}, as dgm-eval"
        )

    def set_features(self, images: Sequence[Image.Image]) -> SetFeatures:
        """Return features (N, W) of N pictures of any sizes, and no logits."""
        return self.features_of([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the transformer sees it, 8-bit levels (3, 224, 224)."""
        return squash(image, CROP)

    @exact_inference()
    def features_of(self, prepared: Sequence[Tensor]) -> SetFeatures:
        """Return features (N, W) of N prepared pictures, and no logits."""
        tokens = _class_tokens(self.model, prepared).cpu()
        return SetFeatures(tokens, tokens[:, :0])


def interpolate_positions(learned: Tensor, places: int) -> Tensor:
    """Return position embeddings (1, 1 + places^2, W) as Meta's code of DINOv2 makes them.

    A tenth is added to the number of places before it becomes a factor, so that rounding never
    loses one; the factor, not the number, then decides where each place lies.

    Args:
        learned: (1, 1 + M^2, W), the class token's first.
        places: In a row of patches.
    """
    side = math.isqrt(learned.shape[1] - 1)
    if side == places:
        return learned.detach()
    grid_1WMM = learned[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    factor = (places + 0.1) / side
    smaller_1WPP = interpolate(grid_1WMM, scale_factor=(factor, factor), mode="bicubic")
    rest = smaller_1WPP.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat((learned[:, :1], rest), dim=1).detach()


def _class_tokens(model: Dinov2Model, prepared: Sequence[Tensor]) -> Tensor:
    """Return (N, W): the first token after the final norm."""
    levels_BCHW = torch.stack(list(prepared)).to(model.device) / 255
    tokens: Tensor = model(normalise(levels_BCHW, MEAN, STD)).last_hidden_state
    return tokens[:, 0]
