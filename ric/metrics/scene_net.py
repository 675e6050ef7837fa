"""A scene classifier in place of Inception, LPIPS and DINO, for `--preset tiny`.

It has only seen drawn scenes, and its numbers cannot be compared with published ones: every score
made with it carries its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from transformers import ResNetForImageClassification

from ric.errors import RicError
from ric.metrics.networks import SetFeatures, exact_inference, load_folder
from ric.metrics.pairs import as_rgb
from ric.metrics.resize_rules import eight_bit
from ric.metrics.scene_labels import group_ranges

if TYPE_CHECKING:
    from collections.abc import Sequence

INPUT_SIZE = 64  # pixels; the tiny family's


class SceneNet:
    """A small ResNet: features for FID and DINO, logits for IS, and a distance as LPIPS builds one.

    Args:
        path: A folder with a transformers `ResNetForImageClassification` (safetensors) that reads
            pictures in [-1, 1].
        device: Where it runs, in float32.

    Raises:
        RicError: the folder holds no such model.
    """

    kind = marker = "scene-net"
    smallest = 1  # pixel: it sees every picture at its own size
    definition = f"scene classifier, PIL bicubic to {INPUT_SIZE}, input in [-1, 1]"

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        """Load the network; see the class."""
        self.model: ResNetForImageClassification = load_folder(
            ResNetForImageClassification, path, device, kind="network"
        )
        self.device = torch.device(device)
        if not all(isinstance(label, str) for label in self.labels):
            raise RicError(f"{path}/config.json has labels in id2label that are not texts.")
        # IS needs one set of exclusive labels; for whole pictures that is the place
        self._of_sets = group_ranges(self.labels).get("place", slice(None))

    def set_features(self, images: Sequence[Image.Image]) -> SetFeatures:
        """Return features (N, W) and logits (N, C) of N pictures of any sizes."""
        return self.features_of([self.prepare(image) for image in images])

    def image_embeddings(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (N, W) pooled features of length 1, in DINO's place, on the CPU."""
        return self.embed([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Tensor:
        """Return a picture as the network sees it, 8-bit levels (3, S, S)."""
        size = (INPUT_SIZE, INPUT_SIZE)
        return eight_bit(as_rgb(image).resize(size, Image.Resampling.BICUBIC))

    @exact_inference()
    def features_of(self, prepared: Sequence[Tensor]) -> SetFeatures:
        """Return features (N, W) and logits (N, C) of N prepared pictures."""
        pixels_BCHW = self._pixels(prepared)
        features = self.model.resnet(pixels_BCHW).pooler_output.flatten(1)
        logits = self.model.classifier(features)[:, self._of_sets]
        return SetFeatures(features.cpu(), logits.cpu())

    @exact_inference()
    def embed(self, prepared: Sequence[Tensor]) -> Tensor:
        """Return (N, W) pooled features of length 1 of N prepared pictures, on the CPU."""
        features = self.model.resnet(self._pixels(prepared)).pooler_output.flatten(1)
        return normalize(features, dim=-1).cpu()

    @exact_inference()
    def distances(self, edited: Sequence[Image.Image], reference: Sequence[Image.Image]) -> Tensor:
        """Return (N,) distances, 0 for equal pictures: LPIPS without its learned weights.

        Each stage's activations are normalised to length 1 at every place; the squared differences
        are summed over channels, averaged over places and summed over stages.
        """
        ours, theirs = self._stages(edited), self._stages(reference)
        per_stage = [
            (mine - other).square().sum(dim=1).mean(dim=(1, 2))
            for mine, other in zip(ours, theirs, strict=True)
        ]
        return torch.stack(per_stage).sum(dim=0).cpu()

    @property
    def labels(self) -> list[str]:
        """The label of each output, such as `kind: ball`."""
        names = self.model.config.id2label
        return [names[number] for number in range(len(names))]

    @exact_inference()
    def logits(self, images: Sequence[Image.Image]) -> Tensor:
        """Return all outputs (N, L) for N pictures of any sizes, on the CPU."""
        prepared = [self.prepare(image) for image in images]
        return self.model(self._pixels(prepared)).logits.cpu()

    def _stages(self, images: Sequence[Image.Image]) -> list[Tensor]:
        prepared = [self.prepare(image) for image in images]
        outputs = self.model.resnet(self._pixels(prepared), output_hidden_states=True)
        return [normalize(stage_BCHW, dim=1) for stage_BCHW in outputs.hidden_states]

    def _pixels(self, prepared: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(prepared)).to(self.device) / 127.5 - 1
