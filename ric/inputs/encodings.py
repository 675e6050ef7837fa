"""The frozen networks' encodings of a sample: latents of both pictures, embeddings of its texts.

They do not change while the UNet trains, so they are computed once and stored in `ric`'s cache:
shards of safetensors beside their checksums, in a folder named by the content (pictures, texts, the
networks' weights, precision, flips). With `--no-cache` they are recomputed for every batch.

Choice 12: the source's latents are the posterior's mode, not scaled; for the target, the
posterior's mean and standard deviation are stored, so that each step still samples.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from ric.cache_folders import cache_folder
from ric.data.batches import to_unit
from ric.device import autocast
from ric.inputs.content_key import (
    judge_content,
    network_content,
    tensor_content,
    tokenizer_content,
)
from ric.inputs.filling import appearing_whole, seal, sealed
from ric.method.losses import cosine
from ric.models.pipeline import encode_prompts, encode_source
from ric.runs.checkpoints import write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        StableDiffusionInstructPix2PixPipeline,
    )
    from torch import Tensor

    from ric.distributed import Ranks
    from ric.inputs.examples import Example
    from ric.method.region_box import Box
    from ric.method.region_encoder import RegionEncoder
    from ric.method.scene_encoder import SceneEncoder
    from ric.progress import Progress

# Shape letters: C latent channels, h and w latent height and width, L text tokens, E text width,
# P and Q the two judges' widths.

LAYOUT = 4  # raised whenever the same key would name different contents
AT_ONCE = 8  # samples encoded in one pass
IN_A_SHARD = 256  # samples
# also leftmost, right-hand, topleft, upper_right and anticlockwise; not upright
SAYS_A_SIDE = re.compile(
    r"(?<![^\W_])((top|upper|bottom|lower|far|middle|mid|center|centre)?(left|right)"
    r"|(anti|counter-?)?clockwise)",
    re.IGNORECASE,
)
LATENTS = ("source", "target_mean", "target_std")
# of the decoded target, by the judges
JUDGED = ("region_ceiling", "scene_ceiling", "region_target", "scene_target")
TEXTS = ("instruction", "region_text", "scene_text")


@dataclass(frozen=True)
class View:
    """A sample as it is, or flipped: latents and the region's box, and what the judges see in it.

    The ceilings are the cosines, as scalar tensors, of the decoded target with its own texts
    (choice 16), and the targets the judges' embeddings of it (choice 20); None where they are not
    asked for or a judge or text is missing.
    """

    source: Tensor  # (C, h, w), posterior mode, unscaled
    target_mean: Tensor  # (C, h, w)
    target_std: Tensor  # (C, h, w)
    box: Box | None
    region_ceiling: Tensor | None = None
    scene_ceiling: Tensor | None = None
    region_target: Tensor | None = None  # f_r (P,)
    scene_target: Tensor | None = None  # e_f (Q,)


@dataclass(frozen=True)
class Prepared:
    """A sample with everything that does not change while the UNet trains."""

    views: tuple[View, ...]  # as it is; also flipped, where --flip allows it
    instruction: Tensor  # (L, E)
    region_text: Tensor | None  # e_tr (P,); None without a text, or with no region judge on
    scene_text: Tensor | None  # e_tf (Q,); None without a text, or with no scene judge on


@dataclass(frozen=True)
class Encoder:
    """The frozen networks that encode samples.

    Attributes:
        pipeline: Its VAE and text encoder.
        region_judge: None where its loss is off.
        scene_judge: None where its loss is off.
        dtype: What the networks compute in.
        flip: Whether samples whose texts name no side are also encoded flipped (choice 11).
        decoder: Decodes targets for the judges (choices 16 and 20); None: they see none.
        aims_at_target: Whether the judges' embeddings of the target are kept (choice 20).
    """

    pipeline: StableDiffusionInstructPix2PixPipeline
    region_judge: RegionEncoder | None
    scene_judge: SceneEncoder | None
    dtype: torch.dtype
    flip: bool
    decoder: AutoencoderKL | AutoencoderTiny | None = None
    aims_at_target: bool = False

    @torch.no_grad()
    def encode(self, items: Sequence[Example]) -> list[Prepared]:
        """Encode some samples; everything is float32, on the pipeline's device."""
        with autocast(self.pipeline.device, self.dtype):
            instructions = encode_prompts(self.pipeline, [item.instruction for item in items])
            views = [[view] for view in self._views(items, flipped=False)]
            turned = [place for place, item in enumerate(items) if self.turns(item)]
            flipped = self._views([items[place] for place in turned], flipped=True)
            for place, view in zip(turned, flipped, strict=True):
                views[place].append(view)
            return [
                self._judged(
                    Prepared(
                        views=tuple(seen),
                        instruction=instruction,
                        region_text=_embed(self.region_judge, item.region_text),
                        scene_text=_embed(self.scene_judge, item.scene_text),
                    )
                )
                for item, seen, instruction in zip(items, views, instructions.float(), strict=True)
            ]

    @torch.no_grad()
    def null_prompt(self) -> Tensor:
        """Embed the empty instruction: (L, E)."""
        with autocast(self.pipeline.device, self.dtype):
            return encode_prompts(self.pipeline, [""])[0].float()

    def turns(self, item: Example) -> bool:
        """Tell whether a sample is also encoded flipped."""
        return self.flip and not says_a_side(item)

    def _judged(self, sample: Prepared) -> Prepared:
        """Add to a sample's views what the judges make of its target (choices 16 and 20)."""
        if self.decoder is None:
            return sample
        scale = self.pipeline.vae.config.scaling_factor / self.decoder.config.scaling_factor
        latents = torch.stack([view.target_mean for view in sample.views]) * scale
        pixels = self.decoder.decode(latents.to(self.decoder.dtype)).sample.float().clamp(-1, 1)
        views = []
        for view, picture in zip(sample.views, pixels.split(1), strict=True):
            seen: dict[str, Any] = {}
            if self.region_judge and sample.region_text is not None and view.box is not None:
                f_r = self.region_judge.encode_region(picture, [view.box])
                seen |= self._seen("region", f_r, sample.region_text)
            if self.scene_judge and sample.scene_text is not None:
                e_f = self.scene_judge.encode_image(picture)
                seen |= self._seen("scene", e_f, sample.scene_text)
            views.append(replace(view, **seen))
        return replace(sample, views=tuple(views))

    def _seen(self, judge: str, visual: Tensor, text: Tensor) -> dict[str, Tensor]:
        """Return what a view keeps of a judge's embedding (1, P) of its target."""
        if self.aims_at_target:
            return {f"{judge}_target": visual[0].float()}
        return {f"{judge}_ceiling": cosine(visual, text[None])[0]}

    def _views(self, items: Sequence[Example], *, flipped: bool) -> list[View]:
        if not items:
            return []
        # every sample has a source: only fits load examples without
        sources = to_unit(torch.stack([item.source for item in items if item.source is not None]))
        targets = to_unit(torch.stack([item.target for item in items]))
        if flipped:
            sources, targets = sources.flip(-1), targets.flip(-1)
        device = self.pipeline.device
        modes = encode_source(self.pipeline, sources.to(device)).float()
        posterior = self.pipeline.vae.encode(targets.to(device)).latent_dist
        boxes = [_box(item, flipped=flipped) for item in items]
        rows = zip(modes, posterior.mean.float(), posterior.std.float(), boxes, strict=True)
        return [View(*row) for row in rows]


def says_a_side(item: Example) -> bool:
    """Tell whether any of a sample's texts names a side, which a flip would swap.

    Texts of a judge that is switched off count too, so that every ablation sees the same flips.
    """
    texts = (item.instruction, item.region_text, item.scene_text)
    return any(SAYS_A_SIDE.search(text) for text in texts if text)


class OnDemand:
    """Samples that are encoded each time they are used."""

    def __init__(self, encoder: Encoder, examples: Sequence[Example]) -> None:
        """Hold the encoder and the pictures."""
        self.encoder, self.examples = encoder, examples

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.examples)

    def take(self, indices: Sequence[int]) -> list[Prepared]:
        """Encode these samples in one pass."""
        return self.encoder.encode([self.examples[index] for index in indices])


# --- on disk -------------------------------------------------------------------------------------


def encode_once(
    encoder: Encoder,
    examples: Sequence[Example],
    ranks: Ranks,
    progress: Progress,
    *,
    on_host: bool = False,
) -> list[Prepared]:
    """Load every sample's encodings from the cache, after filling it once per machine if needed.

    They are kept in the device's memory if a quarter of its free memory holds them, else in the
    host's. Text embeddings are rounded to the encoder's precision.

    Args:
        encoder: Its networks must not change as long as the result is used.
        examples: The samples.
        ranks: The processes that train together.
        progress: Shows each sample that is encoded, and a note about a damaged cache.
        on_host: Keep them in the host's memory in any case: `--memory` counts on it.
    """
    folder = cache_folder() / "encodings" / _key(encoder, examples)

    def is_whole() -> bool:
        files = sealed(folder)
        return files is not None and len(files) == -(-len(examples) // IN_A_SHARD)

    def fill() -> None:
        if is_whole():
            return
        if folder.is_dir():
            progress.note(f"{folder} is damaged and is being rebuilt")
        with appearing_whole(folder, is_whole) as aside:
            _write(aside, _passes(encoder, examples, progress), encoder.dtype)

    ranks.once_per_machine(fill)
    device = encoder.pipeline.device
    files = sorted(folder.glob("*.safetensors"))
    # texts are stored in the networks' precision and used as float32
    size = 4 // encoder.dtype.itemsize * sum(file.stat().st_size for file in files)
    if on_host or not _fits(size, device):
        device = torch.device("cpu")
    rows = (row for file in files for row in _read(file))
    return [_prepared(encoder, *pair, device) for pair in zip(examples, rows, strict=True)]


def _passes(
    encoder: Encoder, examples: Sequence[Example], progress: Progress
) -> Iterator[list[Prepared]]:
    with progress.stage("encoding", total=len(examples), unit="samples") as stage:
        for start in range(0, len(examples), AT_ONCE):
            some = encoder.encode(examples[start : start + AT_ONCE])
            yield some
            stage.advance(len(some))


def _write(folder: Path, passes: Iterator[list[Prepared]], dtype: torch.dtype) -> None:
    shard: list[dict[str, Tensor]] = []
    numbers = count()

    def close() -> None:
        named = {f"{row}.{key}": one[key] for row, one in enumerate(shard) for key in one}
        write_tensors(named, folder / f"{next(numbers):05d}.safetensors")
        shard.clear()

    for some in passes:
        for one in some:
            shard.append(_tensors(one, dtype))
            if len(shard) == IN_A_SHARD:
                close()
    if shard:
        close()
    seal(folder)


def _tensors(one: Prepared, dtype: torch.dtype) -> dict[str, Tensor]:
    """Name a sample's stored tensors: latents in float32, texts in the networks' precision."""
    named = {
        f"{key}.{number}": getattr(view, key).cpu().contiguous()
        for number, view in enumerate(one.views)
        for key in (*LATENTS, *JUDGED)
        if getattr(view, key) is not None
    }
    for key in TEXTS:
        if (text := getattr(one, key)) is not None:
            named[key] = text.to("cpu", dtype).contiguous()
    return named


def _read(file: Path) -> Iterator[dict[str, Tensor]]:
    rows: dict[int, dict[str, Tensor]] = {}
    for name, value in load_file(file).items():
        row, _, key = name.partition(".")
        rows.setdefault(int(row), {})[key] = value
    return (rows[row] for row in range(len(rows)))


def _prepared(
    encoder: Encoder, item: Example, row: dict[str, Tensor], device: torch.device
) -> Prepared:
    kept = {key: value.to(device, torch.float32) for key, value in row.items()}
    views = []
    for number, flipped in enumerate([False, True] if encoder.turns(item) else [False]):
        of_view: dict[str, Any] = {key: kept.get(f"{key}.{number}") for key in (*LATENTS, *JUDGED)}
        views.append(View(**of_view, box=_box(item, flipped=flipped)))
    return Prepared(
        tuple(views), kept["instruction"], kept.get("region_text"), kept.get("scene_text")
    )


def _fits(size: int, device: torch.device) -> bool:
    return device.type != "cuda" or 4 * size <= torch.cuda.mem_get_info(device)[0]


def _key(encoder: Encoder, examples: Sequence[Example]) -> str:
    digest = hashlib.sha256(repr([LAYOUT, str(encoder.dtype), encoder.flip]).encode())
    for part in _contents(encoder, examples):
        digest.update(part)
    return digest.hexdigest()[:32]


def _contents(encoder: Encoder, examples: Sequence[Example]) -> Iterator[bytes]:
    pipeline = encoder.pipeline
    yield from network_content(pipeline.vae)
    yield from network_content(pipeline.text_encoder)
    yield tokenizer_content(pipeline.tokenizer)
    if encoder.decoder is not None:
        yield b"targets" if encoder.aims_at_target else b"ceilings"
        yield from network_content(encoder.decoder)
    for judge in (encoder.region_judge, encoder.scene_judge):
        yield b"judge"
        if judge is not None:
            # what it makes of targets depends on all of it, an embedded text on its text tower
            yield from (
                judge_content(judge) if encoder.decoder else network_content(judge.tower, "text")
            )
            yield tokenizer_content(judge.tokenizer)
            yield repr(judge.max_text_tokens).encode()
    for item in examples:
        texts = (item.instruction, item.region_text, item.scene_text)
        yield repr((tuple(item.target.shape), *texts)).encode()
        for picture in (item.source, item.target):
            if picture is not None:
                yield tensor_content(picture)


def _box(item: Example, *, flipped: bool) -> Box | None:
    if item.box is None or not flipped:
        return item.box
    width = item.target.shape[-1]
    x_min, y_min, x_max, y_max = item.box
    return (width - x_max, y_min, width - x_min, y_max)


def _embed(judge: RegionEncoder | SceneEncoder | None, text: str | None) -> Tensor | None:
    if judge is None or text is None:
        return None
    return judge.encode_text([text])[0].float()
