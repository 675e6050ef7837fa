"""The libraries that `ric eval` is measured against, each run over folders as its users would.

Each reads the files again, as it does when they run one after the other. Networks are loaded from
the same files as `ric`'s; loading them is not timed, nor is the matrix root in clean-fid's FID.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cleanfid.fid
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch_fidelity.datasets import ImagesPathDataset
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.utils import get_featuresdict_from_dataset
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize
from torchvision.transforms import ToTensor as InUnitRange
from transformers import CLIPImageProcessorPil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lpips import LPIPS
    from torch import Tensor

    from ric.metrics.clip_similarity import ClipSimilarity
    from ric.metrics.dino_similarity import DinoSimilarity
    from ric.metrics.inception import InceptionFeatures

DINO_RULE = Compose(
    [
        Resize(256, interpolation=InterpolationMode.BICUBIC),
        CenterCrop(224),
        InUnitRange(),
        Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


class Pictures(Dataset):
    """Picture files, decoded and preprocessed one by one."""

    def __init__(self, files: Sequence[Path], prepare: Callable[[Image.Image], Tensor]) -> None:
        """Store the files and the preprocessing."""
        self.files, self.prepare = files, prepare

    def __len__(self) -> int:
        """Count the files."""
        return len(self.files)

    def __getitem__(self, place: int) -> Tensor:
        """Read one file."""
        with Image.open(self.files[place]) as image:
            return self.prepare(image.convert("RGB"))


def clean_fid(network: InceptionFeatures) -> Callable[..., None]:
    """Make a run of clean-fid's features of every folder, without the FID's matrix root."""

    def run(folders: Sequence[Path], texts: Sequence[str], batch: int, workers: int) -> None:
        for folder in folders:
            cleanfid.fid.get_folder_features(
                str(folder),
                lambda pixels: network.activations((pixels - 128) / 128),
                num_workers=workers,
                num=len(texts),
                batch_size=batch,
                device=network.device,
                verbose=False,
            )

    return run


def fidelity_is(network: InceptionFeatures) -> Callable[..., None]:
    """Make a run of torch-fidelity's IS of every folder."""

    def run(folders: Sequence[Path], texts: Sequence[str], batch: int, workers: int) -> None:
        for folder in folders:
            found = get_featuresdict_from_dataset(
                ImagesPathDataset(sorted(folder.iterdir())[: len(texts)]),
                network.network,
                batch,
                cuda=network.device.type == "cuda",
                save_cpu_ram=workers == 0,
                verbose=False,
            )
            logits = found["logits_unbiased"]
            isc_features_to_metric(logits, splits=min(10, len(logits)))

    return run


def lpips_loop(network: LPIPS, device: torch.device) -> Callable[..., None]:
    """Make a run of lpips of the edited pictures and of the targets, against the sources."""

    def levels(image: Image.Image) -> Tensor:
        return InUnitRange()(image) * 2 - 1

    @torch.no_grad()
    def run(folders: Sequence[Path], texts: Sequence[str], batch: int, workers: int) -> None:
        edited, target, source = (
            DataLoader(Pictures(sorted(folder.iterdir())[: len(texts)], levels), batch,
                       num_workers=workers)
            for folder in folders
        )  # fmt: skip
        for side in (edited, target):
            for ours, theirs in zip(side, source, strict=True):
                network(ours.to(device), theirs.to(device)).cpu()

    return run


def clip_loop(network: ClipSimilarity) -> Callable[..., None]:
    """Make a run of CLIP over all pictures, with transformers' own processor, and the texts."""
    processor: Any = CLIPImageProcessorPil()

    def prepare(image: Image.Image) -> Tensor:
        return processor(image, return_tensors="pt")["pixel_values"][0]

    @torch.no_grad()
    def run(folders: Sequence[Path], texts: Sequence[str], batch: int, workers: int) -> None:
        for folder in folders:
            files = sorted(folder.iterdir())[: len(texts)]
            for pixels in DataLoader(Pictures(files, prepare), batch, num_workers=workers):
                network.model.get_image_features(pixels.to(network.device)).pooler_output.cpu()
        for first in range(0, len(texts), batch):
            words = list(texts[first : first + batch])
            tokens = network.tokenizer(
                words, truncation=True, max_length=77, padding=True, return_tensors="pt"
            )
            network.model.get_text_features(tokens["input_ids"].to(network.device))

    return run


def dino_loop(network: DinoSimilarity) -> Callable[..., None]:
    """Make a run of DINO over all pictures."""

    @torch.no_grad()
    def run(folders: Sequence[Path], texts: Sequence[str], batch: int, workers: int) -> None:
        for folder in folders:
            files = sorted(folder.iterdir())[: len(texts)]
            for pixels in DataLoader(Pictures(files, DINO_RULE), batch, num_workers=workers):
                network.model(pixels.to(network.device)).last_hidden_state[:, 0].cpu()

    return run
