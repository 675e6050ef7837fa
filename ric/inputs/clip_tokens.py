"""Phase 1 of fit-clip without running the backbone: CLIP's tokens are computed once and cached.

While the backbone is frozen, its output for a sample never changes: e_r, e_f and e_tr are
computed once, in the precision of the networks, into memory-mapped files. The folder, in `ric`'s
cache, is named by the content: pictures, boxes, texts, CLIP's weights, resolution and precision.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ric.cache_folders import cache_folder
from ric.data.batches import to_unit
from ric.device import autocast
from ric.inputs.content_key import network_content, tensor_content, tokenizer_content
from ric.inputs.filling import appearing_whole, seal, sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.inputs.examples import Example
    from ric.method.region_encoder import RegionEncoder
    from ric.work import Work

# Shape letters: N examples, T tokens of a picture, D joint width.

LAYOUT = 3  # raised whenever the same key would name different contents


@dataclass(frozen=True)
class TokenCache:
    """A frozen region judge's tokens and text embeddings of examples.

    Attributes:
        places: Each example's row, by id.
        visual: e_r and e_f (N, 2, T, D), memory-mapped; without gated fusion the crops' projected
            embeddings (N, 1, 1, D).
        text: e_tr (N, D), memory-mapped.
    """

    places: dict[str, int]
    visual: Tensor
    text: Tensor

    def embed(self, judge: RegionEncoder, items: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Embed examples, computing nothing but the judge's fusion: f_r and e_tr, (N, D) each."""
        rows = [self.places[item.id] for item in items]
        device = judge.logit_scale.device
        visual, text = self.visual[rows].to(device), self.text[rows].to(device)
        if not judge.gated:
            return visual[:, 0, 0], text
        return judge.fuse(visual[:, 0], visual[:, 1]), text


def cache_tokens(
    judge: RegionEncoder,
    examples: Sequence[Example],
    work: Work,
    *,
    dtype: torch.dtype,
    at_once: int,
) -> TokenCache:
    """Compute the examples' tokens with the judge's CLIP, or find them, once per machine.

    Args:
        judge: Its CLIP must not change as long as the result is used.
        examples: With boxes and region texts.
        work: The processes that train together; its progress shows each example.
        dtype: What the networks compute in and the files store.
        at_once: Examples in one pass.
    """
    folder = cache_folder() / "tokens" / _key(judge, examples, dtype)
    tokens = (judge.pixels.size // judge.tower.config.vision_config.patch_size) ** 2
    each = (2, tokens, judge.width) if judge.gated else (1, 1, judge.width)
    shapes = {"visual": (len(examples), *each), "text": (len(examples), judge.width)}

    def is_whole() -> bool:
        files = sealed(folder) or []
        return [file.name for file in files] == sorted(shapes)

    def fill() -> None:
        if is_whole():
            return
        with (
            appearing_whole(folder, is_whole) as aside,
            work.progress.stage("encoding", total=len(examples), unit="samples") as stage,
        ):
            visual, text = (
                _mapped(aside / name, shape, dtype, writes=True) for name, shape in shapes.items()
            )
            for start in range(0, len(examples), at_once):
                some = examples[start : start + at_once]
                rows = slice(start, start + len(some))
                visual[rows], text[rows] = _encode(judge, some, dtype)
                stage.advance(len(some))
            seal(aside)

    work.ranks.once_per_machine(fill)
    return TokenCache(
        {item.id: row for row, item in enumerate(examples)},
        *(_mapped(folder / name, shape, dtype) for name, shape in shapes.items()),
    )


@torch.no_grad()
def _encode(
    judge: RegionEncoder, items: Sequence[Example], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    device = judge.logit_scale.device
    with autocast(device, dtype):
        images = to_unit(torch.stack([item.target for item in items]).to(device))
        boxes = [item.box for item in items if item.box]
        text = judge.encode_text([item.region_text or "" for item in items])
        if judge.gated:
            e_r, e_f = judge.region_and_image_tokens(images, boxes)
            visual = torch.stack([e_r, e_f], dim=1)
        else:
            visual = judge.encode_region(images, boxes)[:, None, None]
    return visual.to("cpu", dtype), text.to("cpu", dtype)


def _mapped(
    file: Path, shape: tuple[int, ...], dtype: torch.dtype, *, writes: bool = False
) -> Tensor:
    count = torch.Size(shape).numel()
    if writes:
        with open(file, "wb") as stream:  # a full disk is an error here, but a crash once mapped
            os.posix_fallocate(stream.fileno(), 0, count * dtype.itemsize)
    return torch.from_file(str(file), shared=writes, size=count, dtype=dtype).reshape(shape)


def _key(judge: RegionEncoder, examples: Sequence[Example], dtype: torch.dtype) -> str:
    how = [LAYOUT, str(dtype), judge.gated, judge.pixels, judge.max_text_tokens]
    digest = hashlib.sha256(repr(how).encode())
    for part in _contents(judge, examples):
        digest.update(part)
    return digest.hexdigest()[:32]


def _contents(judge: RegionEncoder, examples: Sequence[Example]) -> Iterable[bytes]:
    yield from network_content(judge.tower)
    yield tokenizer_content(judge.tokenizer)
    for item in examples:
        yield repr((item.id, tuple(item.target.shape), item.box, item.region_text)).encode()
        yield tensor_content(item.target)
