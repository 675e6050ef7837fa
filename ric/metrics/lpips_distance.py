"""LPIPS: a learned distance between two pictures' activations (Zhang et al. 2018), lpips 0.1.4."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from lpips import LPIPS, normalize_tensor, spatial_average
from torch import Tensor

from ric.errors import RicError
from ric.metrics.networks import exact_inference, load_tensors
from ric.metrics.resize_rules import levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from ric.config import LpipsNet

PUBLISHED = "alex"
# torchvision's files, which the lpips package would download
BACKBONE_FILE = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


SMALLEST = {"alex": 31, "vgg": 16, "squeeze": 17}  # pixels; below, some layer has none left


class LpipsDistance:
    """The lpips package's distance, with its backbone read from a local file.

    The package ships its linear layers and downloads its backbone; here the backbone comes from
    `weights` and nothing is downloaded.

    Args:
        net: `alex` (what the papers report), `vgg`, or `squeeze` (PIE-Bench's, outside the mask).
        weights: torchvision's state dict of that backbone, a .pth file; it is read without running
            its code.
        device: Where it runs, in float32.
        published: The net whose scores carry no marker.

    Raises:
        RicError: the file cannot be read, or is another network's.
    """

    def __init__(
        self,
        net: LpipsNet | Literal["squeeze"],
        weights: Path,
        device: torch.device | str = "cpu",
        *,
        published: str = PUBLISHED,
    ) -> None:
        """Load the network; see the class."""
        # lpips first builds a random backbone, calling torchvision with a deprecated argument
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LPIPS(net=net, pnet_rand=True, verbose=False)
        load_backbone(model, weights)
        self.model = model.requires_grad_(False).to(device)
        self.device = torch.device(device)
        if self.device.type == "cpu":
            # SqueezeNet takes less than half the time, AlexNet 85 %
            self.model.to(memory_format=torch.channels_last)
        self.marker = "" if net == published else net
        self.smallest = SMALLEST[net]
        self.definition = f"lpips 0.1.4, {net}, v0.1, input in [-1, 1] at the reference's size"

    @exact_inference()
    def distances(self, edited: Sequence[Image.Image], reference: Sequence[Image.Image]) -> Tensor:
        """Return (N,) distances, 0 for equal pictures and about 1 at most, on the CPU.

        Args:
            edited: N pictures, each at its reference's size (see `fit_to`).
            reference: N pictures; one object several times in a row is encoded once.

        Raises:
            ValueError: two pictures of a pair differ in size.
        """
        # one picture at a time: they differ in size, and a batch is slower on a CPU
        found, of_last, last = [], [], None
        for ours, theirs in zip(edited, reference, strict=True):
            if ours.size != theirs.size:
                raise ValueError(f"LPIPS of {ours.size} and {theirs.size}: sizes must be equal")
            if theirs is not last:
                of_last, last = self._activations(theirs), theirs
            found.append(self.between(self._activations(ours), of_last))
        return torch.cat(found).flatten().cpu()

    def between(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Return the distance (1, 1, 1, 1) of two pictures' activations."""
        layers = zip(self.model.lins, ours, theirs, strict=True)
        terms = [spatial_average(lin((a - b) ** 2)) for lin, a, b in layers]
        return torch.stack(terms).sum(dim=0)

    def _activations(self, image: Image.Image) -> list[Tensor]:
        """Return every layer's activations (1, C, H, W) of a picture, normalised over channels."""
        pixels_1CHW = (levels(image)[None] / 127.5 - 1).to(self.device)
        layers = self.model.net(self.model.scaling_layer(pixels_1CHW))
        return [normalize_tensor(layer) for layer in layers]


def load_backbone(model: LPIPS, weights: Path) -> None:
    """Put a torchvision classifier's `features.*` tensors into an LPIPS's sliced backbone.

    The slices keep torchvision's layer numbers (`features.3.weight` is `slice2.3.weight`), so a
    tensor's place is its layer number.

    Raises:
        RicError: the file cannot be read, or its tensors do not fit.
    """
    hint = f"Give torchvision's {BACKBONE_FILE[model.pnet_type]}."
    state = load_tensors(weights, hint)
    backbone = model.net
    try:
        placed = {
            name: state["features." + name.split(".", 1)[1]] for name in backbone.state_dict()
        }
        backbone.load_state_dict(placed)
    except (KeyError, TypeError, RuntimeError):
        raise RicError(
            f"{weights} does not hold LPIPS's {model.pnet_type} backbone.", hint
        ) from None
