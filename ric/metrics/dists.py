"""DISTS: likeness in texture and in structure of two pictures' activations (Ding et al. 2020).

Pictures and the activations of VGG16's five stages, each stage but the first behind an L2 pooling
in place of its max pooling, are compared channel by channel: their means (texture) and their
covariance (structure). The paper's code brings pictures to a short side of 256 pixels before
that, which torchmetrics leaves to its caller; its learned weights of the channels, alpha and beta,
come with torchmetrics.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torchvision.transforms.functional import resize

from ric.errors import RicError
from ric.metrics.dino_similarity import MEAN, STD
from ric.metrics.lpips_distance import BACKBONE_FILE
from ric.metrics.networks import exact_inference, load_tensors, published_marker
from ric.metrics.pairs import as_rgb
from ric.metrics.resize_rules import levels, normalise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

PUBLISHED = "lpips-vgg"  # the same file of torchvision's
SHORT_SIDE = 256  # pixels; smaller pictures stay as they are
# the numbers of each stage's convolutions in torchvision's VGG16
STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
CHANNELS = (3, 64, 128, 256, 512, 512)  # of the picture and of each stage
STABLE = 1e-6  # the paper's c1 and c2
PACKAGE = "torchmetrics"


class ChannelWeights(NamedTuple):
    """The learned weights of texture and of structure, (1475,) each: for every channel one."""

    alpha: Tensor
    beta: Tensor


class DistsDistance:
    """The distance, with its VGG16 read from a local file.

    Args:
        weights: torchvision's state dict of VGG16, a .pth file; it is read without running its
            code.
        device: Where it runs, in float32.
        encoder: Its name in headings and definitions; None: the published one's.

    Raises:
        RicError: the file cannot be read or is another network's, or the installed torchmetrics
            lacks the weights of the channels.
    """

    smallest = 1  # pixel: L2 pooling leaves at least one

    def __init__(
        self, weights: Path, device: torch.device | str = "cpu", *, encoder: str | None = None
    ) -> None:
        """Load the network; see the class."""
        self.device = torch.device(device)
        self.network = load_stages(weights).to(device)
        self.channels = ChannelWeights(*(part.to(device) for part in channel_weights()))
        self.marker = published_marker(encoder or PUBLISHED, PUBLISHED)
        self.definition = (
            f"DISTS, VGG16, alpha and beta of {PACKAGE} {version(PACKAGE)}; at the reference's"
            f" size, then PIL bilinear to a short side of {SHORT_SIDE} if it is longer"
        )

    @exact_inference()
    def distances(self, edited: Sequence[Image.Image], reference: Sequence[Image.Image]) -> Tensor:
        """Return (N,) distances, 0 for equal pictures and about 1 at most, on the CPU.

        Args:
            edited: N pictures, each at its reference's size (see `fit_to`).
            reference: N pictures; one object several times in a row is encoded once.

        Raises:
            ValueError: two pictures of a pair differ in size.
        """
        found, of_last, last = [], [], None
        for ours, theirs in zip(edited, reference, strict=True):
            if ours.size != theirs.size:
                raise ValueError(f"DISTS of {ours.size} and {theirs.size}: sizes must be equal")
            if theirs is not last:
                of_last, last = self._activations(theirs), theirs
            found.append(dists(self._activations(ours), of_last, self.channels))
        return torch.stack(found).cpu()

    def _activations(self, image: Image.Image) -> list[Tensor]:
        picture = as_rgb(image)
        if min(picture.size) > SHORT_SIDE:
            picture = resize(picture, SHORT_SIDE)
        pixels_1CHW: Tensor = levels(picture)[None].to(self.device) / 255
        return [pixels_1CHW, *self.network(normalise(pixels_1CHW, MEAN, STD))]


class Vgg16Stages(nn.Module):
    """VGG16's five stages of convolutions, with an L2 pooling before each but the first."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Take torchvision's tensors, `features.N.weight` and `features.N.bias`."""
        super().__init__()
        for name in (f"features.{number}.{part}" for stage in STAGES for number in stage
                     for part in ("weight", "bias")):  # fmt: skip
            self.register_buffer(name.replace(".", "_"), state[name].float())
        kernel = torch.tensor([1.0, 2.0, 1.0]) / 4  # a Hann window of five, without its zeros
        self.register_buffer("window", torch.outer(kernel, kernel))

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Return each stage's last activations; pixels are normalised as ImageNet's."""
        found, hidden = [], pixels_BCHW
        for place, stage in enumerate(STAGES):
            if place:
                hidden = self._pooled(hidden)
            for number in stage:
                weight, bias = (
                    self.get_buffer(f"features_{number}_{part}") for part in ("weight", "bias")
                )
                hidden = conv2d(hidden, weight, bias, padding=1).relu()
            found.append(hidden)
        return found

    def _pooled(self, hidden_BCHW: Tensor) -> Tensor:
        """Return the root of the mean square under a window of 3 x 3, at every second place."""
        count = hidden_BCHW.shape[1]
        window_C1HW = self.get_buffer("window").expand(count, 1, 3, 3)
        squares = conv2d(hidden_BCHW.square(), window_C1HW, stride=2, padding=1, groups=count)
        return (squares + 1e-12).sqrt()


def dists(ours: Sequence[Tensor], theirs: Sequence[Tensor], channels: ChannelWeights) -> Tensor:
    """Return 1 less the weighted likeness of texture and structure, a scalar.

    Args:
        ours: The picture (1, 3, H, W) in [0, 1] and its stages (1, C, H', W').
        theirs: The other picture's, of the same shapes.
        channels: Weights of the channels, of any sum.
    """
    texture, structure = [], []
    for a_1CHW, b_1CHW in zip(ours, theirs, strict=True):
        a_CN, b_CN = a_1CHW[0].flatten(1), b_1CHW[0].flatten(1)
        mean_a, mean_b = a_CN.mean(dim=1), b_CN.mean(dim=1)
        off_a, off_b = a_CN - mean_a[:, None], b_CN - mean_b[:, None]
        variances = off_a.square().mean(dim=1) + off_b.square().mean(dim=1)
        products, covariances = mean_a * mean_b, (off_a * off_b).mean(dim=1)
        texture.append((2 * products + STABLE) / (mean_a**2 + mean_b**2 + STABLE))
        structure.append((2 * covariances + STABLE) / (variances + STABLE))
    alike = channels.alpha @ torch.cat(texture) + channels.beta @ torch.cat(structure)
    return 1 - alike / (channels.alpha.sum() + channels.beta.sum())


def load_stages(weights: Path) -> Vgg16Stages:
    """Read torchvision's VGG16.

    Raises:
        RicError: the file cannot be read, or its tensors do not fit.
    """
    hint = f"Give torchvision's {BACKBONE_FILE['vgg']}."
    state = load_tensors(weights, hint)
    try:
        stages = Vgg16Stages(state)
        stages(torch.zeros(1, 3, 16, 16))
        return stages
    except (KeyError, TypeError, AttributeError, RuntimeError):
        raise RicError(f"{weights} does not hold VGG16.", hint) from None


def channel_weights() -> ChannelWeights:
    """Read the learned weights of the channels from the installed torchmetrics.

    Raises:
        RicError: it has none.
    """
    hint = f"Install another {PACKAGE}: pip install '{PACKAGE}>=1.8'"
    found = find_spec(PACKAGE)  # imports nothing
    folder = Path(found.origin).parent if found and found.origin else Path()
    state = load_tensors(folder / "functional/image/dists_models/weights.pt", hint)
    try:
        weights = ChannelWeights(*(state[name].flatten().float() for name in ("alpha", "beta")))
    except (KeyError, TypeError, AttributeError):
        raise RicError(f"{PACKAGE}'s weights of DISTS are of another form.", hint) from None
    if any(part.shape != (sum(CHANNELS),) for part in weights):
        raise RicError(f"{PACKAGE}'s weights of DISTS are of another form.", hint)
    return weights
