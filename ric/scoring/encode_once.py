"""Run a network once on every picture of a batch, however many scores need it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ric.metric_table import SET_DISTANCES
from ric.metrics.networks import (
    MetricNetworks,
    PairDistance,
    PictureReader,
    SetEncoder,
    TextImageEncoder,
    Unavailable,
)
from ric.metrics.pairs import Pair
from ric.metrics.pixel import black_inside

Encoded = TypeVar("Encoded")
Vector = NDArray[np.float32]


class SetRow(NamedTuple):
    """One sample's features for the scores of the whole set; None where its network is missing.

    As NumPy float32, which takes a third of the memory of tensors of this size.

    Attributes:
        features: (W,) of the edited picture, by FID's network.
        logits: (C,) of the edited picture, by FID's network.
        target_features: (W,) of the target, by FID's network.
        is_logits: (C,) of the edited picture, by IS's network.
        own: (W,) of the edited picture and of the target by the network of each of
            `metric_table.SET_DISTANCES`, by the metrics' names.
    """

    features: Vector | None
    logits: Vector | None
    target_features: Vector | None
    is_logits: Vector | None
    own: Mapping[str, tuple[Vector | None, Vector | None]] = MappingProxyType({})

    def compared(self, key: str) -> tuple[Vector | None, Vector | None]:
        """Return the features of the edited picture and the target for a distance of sets.

        KID's are those of `fid`.
        """
        if key == "fid":
            return self.features, self.target_features
        return self.own.get(key, (None, None))


class Comparison(NamedTuple):
    """A requested distance.

    Attributes:
        row: The row that gets it.
        column: Its key there.
        network: The network that measures it.
        edited: A picture of the reference's size.
        reference: The picture to compare it with.
        mask: Where both are blacked out first, or None.
    """

    row: dict[str, Any]
    column: str
    network: PairDistance
    edited: Image.Image
    reference: Image.Image
    mask: Image.Image | None = None


class Encodings:
    """Cached outputs of networks: each picture object goes through each network once.

    Suites that score the same batch share one, so that source and target are encoded once for all
    of them. It keeps the pictures alive: drop it with the batch.

    All suites request their distances first, and `complete` computes them at the end: LPIPS's
    activations are too large to cache for a whole batch.

    Args:
        pool: Prepares pictures and computes on pixels while the networks run; None: in sequence.
    """

    def __init__(self, pool: Executor | None = None) -> None:
        """Start with nothing encoded."""
        self._pool = pool
        self._prepared: dict[tuple[int, int], Future[Tensor]] = {}
        self._known: dict[tuple[int, str], dict[int, Any]] = {}
        self._texts: dict[tuple[int, str], Tensor] = {}
        self._kept: list[object] = []  # alive, since an `id` is reused once its object is gone
        self._computed: list[Future[None]] = []
        self._waiting: list[Comparison] = []

    def prepare(self, network: PictureReader, images: Iterable[Image.Image | None]) -> None:
        """Start to prepare pictures that `of` will need."""
        if self._pool is None:
            return
        for image in images:
            key = id(network), id(image)
            if image is not None and key not in self._prepared:
                self._kept += [network, image]
                self._prepared[key] = self._pool.submit(network.prepare, image)

    def of(
        self,
        network: PictureReader,
        encode: Callable[[Sequence[Tensor]], Iterable[Encoded]],
        images: Iterable[Image.Image | None],
        what: str,
    ) -> dict[int, Encoded]:
        """Encode the pictures that are new; return the encodings of all, by the object's `id`.

        Args:
            network: Whose encodings these are.
            encode: Runs it on prepared pictures.
            images: May hold an object several times, and None.
            what: Names the encoding, for a network that has several.
        """
        known: dict[int, Encoded] = self._known.setdefault((id(network), what), {})
        new = {id(image): image for image in images if image is not None and id(image) not in known}
        if new:
            self._kept += [network, *new.values()]
            prepared = [self._prepare(network, image) for image in new.values()]
            known.update(zip(new, encode(prepared), strict=True))
        return known

    def of_texts(self, network: TextImageEncoder, texts: Sequence[str]) -> list[Tensor]:
        """Return the embedding of each of `texts`; every distinct text is encoded once."""
        known = self._texts
        new = [text for text in dict.fromkeys(texts) if (id(network), text) not in known]
        if new:
            self._kept.append(network)
            keys = [(id(network), text) for text in new]
            known.update(zip(keys, network.text_embeddings(new), strict=True))
        return [known[id(network), text] for text in texts]

    def _prepare(self, network: PictureReader, image: Image.Image) -> Tensor:
        begun = self._prepared.get((id(network), id(image)))
        return begun.result() if begun else network.prepare(image)

    def compute_later(self, compute: Callable[..., None], *arguments: object) -> None:
        """Compute on pixels in parallel with the networks; `complete` waits for it."""
        if self._pool is None:
            compute(*arguments)
        else:
            self._computed.append(self._pool.submit(compute, *arguments))

    def compare_later(self, comparison: Comparison) -> None:
        """Request a distance, which `complete` fills in; a picture's to itself is 0 at once.

        A picture that is too small for the network gets none.
        """
        if min(comparison.edited.size) < comparison.network.smallest:
            return
        if comparison.edited is comparison.reference:
            comparison.row[comparison.column] = 0.0
        else:
            self._waiting.append(comparison)

    def complete(self) -> None:
        """Fill in what was requested, the distances to one reference in a row."""
        for computed in self._computed:
            computed.result()
        self._computed.clear()
        black: dict[tuple[int, int], Image.Image] = {}

        def shown(image: Image.Image, mask: Image.Image | None) -> Image.Image:
            if mask is None:
                return image
            if (id(image), id(mask)) not in black:
                black[id(image), id(mask)] = black_inside(image, mask)
            return black[id(image), id(mask)]

        self._waiting.sort(key=lambda one: (id(one.network), id(one.reference), id(one.mask)))
        for _, group in groupby(self._waiting, lambda one: id(one.network)):
            asked = list(group)
            edited = [shown(one.edited, one.mask) for one in asked]
            references = [shown(one.reference, one.mask) for one in asked]
            distances = asked[0].network.distances(edited, references)
            for one, distance in zip(asked, distances, strict=True):
                one.row[one.column] = float(distance)
        self._waiting.clear()


def encode_sets(
    pairs: Sequence[Pair], networks: MetricNetworks, encodings: Encodings
) -> list[SetRow]:
    """Return every pair's features for the scores of sets; a shared network runs once."""
    edited = [pair.edited for pair in pairs]
    both = [*edited, *(pair.target for pair in pairs)]
    by_fid = _set_features(networks.fid, both, encodings)
    by_is = _set_features(networks.inception_score, edited, encodings)
    by_own = {
        key: _set_features(network, both, encodings)
        for key, network in networks.present(SET_DISTANCES).items()
    }

    def of(known: dict[int, tuple[Vector, Vector]], image: Image.Image | None) -> Vector | None:
        return known[id(image)][0] if known and image else None

    rows = []
    for pair in pairs:
        features, logits = by_fid.get(id(pair.edited), (None, None))
        is_logits = by_is[id(pair.edited)][1] if by_is else None
        own = {
            key: (of(known, pair.edited), of(known, pair.target)) for key, known in by_own.items()
        }
        rows.append(SetRow(features, logits, of(by_fid, pair.target), is_logits, own))
    return rows


def _set_features(
    network: SetEncoder | Unavailable,
    images: Iterable[Image.Image | None],
    encodings: Encodings,
) -> dict[int, tuple[Vector, Vector]]:
    """Return (features, logits) of every picture by its `id`; nothing without a network."""
    if isinstance(network, Unavailable):
        return {}

    def encode(prepared: Sequence[Tensor]) -> Iterable[tuple[Vector, Vector]]:
        features, logits = network.features_of(prepared)
        return zip(features.numpy(), logits.numpy(), strict=True)

    return encodings.of(network, encode, images, "features and logits")
