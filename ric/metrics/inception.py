"""The Inception v3 of 2015-12-05, whose features FID compares and whose classes IS counts.

torch-fidelity, clean-fid and pytorch-fid all run this one network; they differ in how a picture
is resized to 299 pixels and in how its levels are scaled, and their FIDs differ by 1 % and more.
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ric.errors import RicError
from ric.metrics.networks import SetFeatures, exact_inference, load_tensors
from ric.metrics.resize_rules import clean_resize, pytorch_fid_resize, torch_fidelity_resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from ric.config import FidKind

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"

RESIZE = {
    "clean": clean_resize,
    "torch-fidelity": torch_fidelity_resize,
    "pytorch-fid": pytorch_fid_resize,
}
RULE = {
    "clean": "clean-fid's float bicubic to 299",
    "torch-fidelity": "torch-fidelity's TensorFlow 1 bilinear to 299",
    "pytorch-fid": "clean-fid's legacy_pytorch bilinear to 299",
}


class InceptionFeatures:
    """Inception's 2048 pooled activations and its 1008 logits without bias.

    Args:
        weights: torch-fidelity's .pth file; it is read without running its code.
        device: Where it runs, in float32.
        kind: Whose resize rule and scaling: `clean`, `torch-fidelity` or `pytorch-fid`.

    Raises:
        RicError: the file cannot be read, or is another network's.
    """

    def __init__(
        self, weights: Path, device: torch.device | str = "cpu", kind: FidKind = "clean"
    ) -> None:
        """Load the network; see the class."""
        self.network = load_inception(weights).to(device)
        self.device = torch.device(device)
        self.kind: FidKind = kind
        self.marker = ""  # its rule stands beside it where it is not a score's own

    def fed_as(self, kind: FidKind) -> InceptionFeatures:
        """Return the same network under another library's rule; itself if it has that rule."""
        if kind == self.kind:
            return self
        sibling = copy.copy(self)  # shares the weights
        sibling.kind = kind
        return sibling

    @property
    def definition(self) -> str:
        """The network and the rule in one line."""
        return f"Inception v3 (2015-12-05), {RULE[self.kind]}"

    def set_features(self, images: Sequence[Image.Image]) -> SetFeatures:
        """Return features (N, 2048) and logits (N, 1008) of N pictures of any sizes."""
        return self.features_of([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture's levels by the resize rule, float32 (3, 299, 299)."""
        return RESIZE[self.kind](image)

    @exact_inference()
    def features_of(self, prepared: Sequence[Tensor]) -> SetFeatures:
        """Return features (N, 2048) and logits (N, 1008) of N prepared pictures."""
        pixels_BCHW = torch.stack(list(prepared)).to(self.device)
        # pytorch-fid maps 255 to 1, the other two 256
        scaled = (
            pixels_BCHW / 255 * 2 - 1 if self.kind == "pytorch-fid" else (pixels_BCHW - 128) / 128
        )
        features = self.activations(scaled)
        logits = features @ self.network.fc.weight.T
        return SetFeatures(features.cpu(), logits.cpu())

    def activations(self, scaled_BCHW: Tensor) -> Tensor:
        """Return (N, 2048) activations of pictures in about [-1, 1] at 299 x 299.

        torch-fidelity's own `forward` takes 8-bit pixels only and resizes them itself; its layers,
        registered in the order they run, are called here without it.
        """
        layers = [layer for name, layer in self.network.named_children() if name != "fc"]
        return nn.Sequential(*layers)(scaled_BCHW).flatten(1)


def load_inception(weights: Path) -> FeatureExtractorInceptionV3:
    """Build torch-fidelity's network from its own weights file.

    torch-fidelity unpickles any file without a guard, so the file is read here, tensors only, and
    passed on in a buffer that holds nothing else.

    Raises:
        RicError: the file cannot be read, or does not fit the network.
    """
    hint = f"Give torch-fidelity's {WEIGHTS_FILE}."
    state = load_tensors(weights, hint)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights before it loads them
            return FeatureExtractorInceptionV3(
                "inception-v3-compat",
                ["2048", "logits_unbiased"],
                feature_extractor_weights_path=buffer,
            )
    except (TypeError, RuntimeError):
        raise RicError(f"{weights} does not hold torch-fidelity's Inception v3.", hint) from None
