"""Metric networks: their protocols, loading one from a folder, and the mark of a missing one.

Networks run in plain float32: TensorFloat-32 moves a cosine in its fourth digit.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ric.errors import RicError
from ric.lfs_pointer import is_lfs_pointer
from ric.model_files import require_whole
from ric.pretrained import load_network, refuse_not_finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from PIL import Image


@dataclass(frozen=True)
class Unavailable:
    """A missing network; `reason` is shown in place of its scores."""

    reason: str


NOT_ASKED = Unavailable("the protocol does not have it")


class SetFeatures(NamedTuple):
    """The inputs of the scores of sets.

    Attributes:
        features: (N, W) pooled activations.
        logits: (N, C) unnormalised log-probabilities; C is 0 for a network without classes.
    """

    features: Tensor
    logits: Tensor


class Network(Protocol):
    """The description that every network gives of itself.

    Attributes:
        marker: What stands in brackets after the metric's name, as in `fid[scene-net]`; empty
            for the network and the rule that the published numbers use.
        definition: One line: the network and how pictures are prepared for it.
    """

    @property
    def marker(self) -> str:
        """See the class."""

    @property
    def definition(self) -> str:
        """See the class."""


class PictureReader(Protocol):
    """A network that reads pictures one by one."""

    def prepare(self, image: Image.Image) -> Tensor:
        """Return its input for a picture of any size, on the CPU; called from any thread."""


class ImageEncoder(PictureReader, Network, Protocol):
    """A network that returns one vector per picture (DINO)."""

    def embed(self, prepared: Sequence[Tensor]) -> Tensor:
        """Return (N, P) vectors of length 1 of N prepared pictures, on the CPU."""


class TextImageEncoder(ImageEncoder, Protocol):
    """A network that embeds texts and pictures in one space (CLIP)."""

    def is_cut(self, text: str) -> bool:
        """Tell whether a text is longer than the network reads, and so is truncated."""

    def text_embeddings(self, texts: Sequence[str]) -> Tensor:
        """Return (N, P) vectors of length 1, on the CPU."""


class TextScore(TextImageEncoder, Protocol):
    """A network whose score of a picture and a text is a multiple of their cosine (PickScore).

    Attributes:
        scale: The factor.
    """

    @property
    def scale(self) -> float:
        """See the class."""


class PairDistance(Network, Protocol):
    """A network that compares two pictures of one size (LPIPS, DISTS).

    Attributes:
        smallest: The shortest side that it accepts, in pixels.
    """

    @property
    def smallest(self) -> int:
        """See the class."""

    def distances(self, edited: Sequence[Image.Image], reference: Sequence[Image.Image]) -> Tensor:
        """Return (N,) distances, 0 for the same picture, on the CPU."""


class SetEncoder(PictureReader, Protocol):
    """A network whose activations are compared set against set (FID, IS, FD-DINOv2, CMMD...).

    Attributes:
        kind: Whose rule it follows: a `FidKind`, the code that published it, or the name of a
            stand-in.
        marker: As `Network`'s, without the rule.
        definition: As `Network`'s.
    """

    @property
    def marker(self) -> str:
        """See the class."""

    @property
    def kind(self) -> str:
        """See the class."""

    @property
    def definition(self) -> str:
        """See the class."""

    def features_of(self, prepared: Sequence[Tensor]) -> SetFeatures:
        """Return features and logits of prepared pictures, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class MetricNetworks:
    """The loaded metric networks, or why one is missing.

    `inception_score` is usually `fid.fed_as("torch-fidelity")`; where it is the same object as
    `fid`, the two share one pass. `lpips_squeeze` compares what lies outside the mask, and what
    lies inside. `own` has the networks of `metric_table.OWN_NETWORK`, by the metrics' names, each
    of the protocol of its `measure`; without those that are not asked for.
    """

    clip: TextImageEncoder | Unavailable
    dino: ImageEncoder | Unavailable
    lpips: PairDistance | Unavailable
    fid: SetEncoder | Unavailable
    inception_score: SetEncoder | Unavailable
    lpips_squeeze: PairDistance | Unavailable = Unavailable("no network was given")
    own: Mapping[str, Any] = field(default_factory=dict)

    def present(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of `own` that are asked for and not missing, of the metrics of `names`."""
        return {
            name: self.own[name]
            for name in names
            if not isinstance(self.own.get(name, NOT_ASKED), Unavailable)
        }


def published_marker(encoder: str, published: str) -> str:
    """Return the marker of `encoder`: none if it is the one the published numbers use."""
    return "" if encoder == published else encoder


def load_folder(
    model_class: Any, folder: Path, device: torch.device | str, *, kind: str, **options: Any
) -> Any:
    """Load a transformers model from a local folder as float32, for scoring only.

    Args:
        model_class: Such as `CLIPModel`.
        folder: Holds config.json and model.safetensors.
        device: Where it runs.
        kind: What the folder must hold: a row of `model_files.PARTS`.
        options: Passed on to the class.

    Raises:
        RicError: the folder holds no such model, lacks weights that would be left random, or its
            weights are not all finite.
    """
    require_whole(folder, kind)
    model = load_network(
        model_class,
        folder,
        dtype=torch.float32,
        hint="Give a folder with config.json and model.safetensors.",
        **options,
    )
    refuse_not_finite(model, folder)
    return model.requires_grad_(False).to(device)


def load_tensors(file: Path, hint: str) -> Any:
    """Read a .pth file of tensors without running any code in it.

    Raises:
        RicError: the file cannot be read, or holds more than tensors; with `hint`.
    """
    try:
        if is_lfs_pointer(file):
            raise RicError(f"{file} is a git-lfs pointer, not the weights.", hint)
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise RicError(f"Cannot read the weights {file}: {error.strerror}.", hint) from None
    except RicError:
        raise
    except Exception:  # a damaged file can make torch raise anything
        raise RicError(f"{file} is not a file of tensors.", hint) from None


@contextmanager
def exact_inference() -> Iterator[None]:
    """Run without gradients and without TensorFloat-32; usable as a decorator."""
    products = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(products)
