"""Run a network once on every picture of a batch, however many scores ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from PIL import Image
from torch import Tensor

from ric.metrics.networks import Judges, SetEncoder, Unavailable
from ric.metrics.pairs import Pair

Encoded = TypeVar("Encoded")


class SetRow(NamedTuple):
    """What one sample leaves for the scores of the whole set; None where its network is missing.

    Attributes:
        features: (W,) of the edited picture, by FID's network.
        logits: (C,) of the edited picture, by FID's network.
        target_features: (W,) of the target, by FID's network.
        is_logits: (C,) of the edited picture, by IS's network.
    """

    features: Tensor | None
    logits: Tensor | None
    target_features: Tensor | None
    is_logits: Tensor | None


def encode_once(
    encode: Callable[[Sequence[Image.Image]], Iterable[Encoded]],
    images: Iterable[Image.Image | None],
) -> dict[int, Encoded]:
    """Encode every distinct picture object once; return what came out, by the object's `id`."""
    distinct = {id(image): image for image in images if image is not None}
    return dict(zip(distinct, encode(list(distinct.values())), strict=True))


def encode_sets(pairs: Sequence[Pair], judges: Judges) -> list[SetRow]:
    """Return what FID and IS keep of every pair; where they share a network it runs once."""
    fid, isc = judges.fid, judges.inception_score
    edited = [pair.edited for pair in pairs]
    by_fid = _set_features(fid, [*edited, *(pair.target for pair in pairs)])
    by_is = by_fid if isc is fid else _set_features(isc, edited)
    rows = []
    for pair in pairs:
        features, logits = by_fid.get(id(pair.edited), (None, None))
        target_features = by_fid[id(pair.target)][0] if by_fid and pair.target else None
        is_logits = by_is[id(pair.edited)][1] if by_is else None
        rows.append(SetRow(features, logits, target_features, is_logits))
    return rows


def _set_features(
    network: SetEncoder | Unavailable, images: Iterable[Image.Image | None]
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return (features, logits) of every picture by its `id`; nothing without a network."""
    if isinstance(network, Unavailable):
        return {}

    def encode(distinct: Sequence[Image.Image]) -> Iterable[tuple[Tensor, Tensor]]:
        return zip(*network.set_features(distinct), strict=True)

    return encode_once(encode, images)
