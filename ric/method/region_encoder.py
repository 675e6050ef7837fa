"""The region judge: CLIP with gated cross-attention fusion (Sec. 3.2.1 and 3.2.2, Eq. 7).

Choice 1, what is fused: e_r and e_f are CLIP's patch tokens of the crop and of the full image,
the last hidden state without its class token, mapped by `post_layernorm` and
`visual_projection` into the joint space (transformers applies neither to patches): 14x14 tokens,
512 wide, for ViT-B/16. f_r is the mean over region tokens of Eq. 16. Without gated fusion (Table
3) f_r is CLIP's own projected embedding of the crop, and the full image is not used.

Two controls measure what context is worth: the same fusion given the crop alone (e_r in place of
e_f), or the full image alone (e_f in place of e_r).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedTokenizerBase

from ric.errors import RicError
from ric.method.gated_fusion import GatedCrossAttentionFusion
from ric.method.judge import Judge
from ric.method.judge_files import (
    SCHEMA,
    find_artifact,
    is_count,
    load_pixel_numbers,
    load_tensors,
    load_tower,
    refuse_other_tower,
    save_tensors,
    save_tower,
    write_json,
)
from ric.method.judge_pixels import PixelNumbers
from ric.method.region_box import Box, crop
from ric.pretrained import load_tokenizer, refuse_foreign_words

# Shape letters: B batch, R region tokens, F full-image tokens, T either, D joint width, P projected
# width, S side of CLIP's input in pixels.

NAME = "region_encoder"
Sees = Literal["both", "crop", "image"]
UNUSED = ("logit_scale",)  # CLIP's own: ours is trained instead


class RegionEncoder(Judge):
    """Embed texts, and regions in the context of their image, in one space (Eq. 7).

    Attributes:
        gated: False switches the fusion off (Table 3, "without gated fusion").
        sees: What the fusion gets; `crop` and `image` are controls.
        width: D, the joint space's width, which is also P.
        truncated_texts: How many texts were longer than CLIP's positions and were cut.
    """

    def __init__(
        self,
        clip: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        pixels: PixelNumbers,
        *,
        gated: bool = True,
        num_heads: int = 8,
        temperature: float = 0.07,
    ) -> None:
        """Add a freshly initialised fusion to a CLIP; `from_clip` and `from_pretrained` read files.

        Args:
            clip: A `CLIPModel`.
            tokenizer: Its fast tokenizer.
            pixels: Its input size, mean and std.
            gated: Whether regions are fused with their image.
            num_heads: Heads of the fusion's attention; must divide CLIP's projection width.
            temperature: tau of Eq. 11 at the start.

        Raises:
            RicError: `num_heads` does not divide the width, or the tokenizer's end token is not the
                one that CLIP pools.
        """
        super().__init__(
            clip,
            tokenizer,
            pixels,
            max_text_tokens=clip.config.text_config.max_position_embeddings,
            temperature=temperature,
            unused=UNUSED,
        )
        _check_end_token(clip, tokenizer)
        self.gated = gated
        self.sees: Sees = "both"
        self.width = clip.config.projection_dim
        self.fusion = GatedCrossAttentionFusion(self.width, num_heads, self.width)

    @classmethod
    def from_clip(
        cls,
        path: str | Path,
        *,
        gated: bool = True,
        num_heads: int = 8,
        temperature: float = 0.07,
        seed: int = 0,
    ) -> RegionEncoder:
        """Start from a pretrained CLIP and a seeded fusion (Sec. 3, phase 1).

        Args:
            path: A local folder with a `CLIPModel` and its tokenizer.
            gated: Whether regions are fused with their image.
            num_heads: Heads of the fusion's attention.
            temperature: tau of Eq. 11 at the start.
            seed: Seeds the fusion's weights; the global random state is left alone.

        Raises:
            RicError: The folder is missing, holds something else, or has only pickled weights.
        """
        folder = Path(path)
        clip = load_tower(CLIPModel, folder, "clip", UNUSED)
        pixels = load_pixel_numbers(folder, clip.config.vision_config.image_size)
        tokenizer = load_tokenizer(folder)
        refuse_foreign_words(folder, tokenizer, clip.config.text_config.vocab_size)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the CPU's alone
            encoder = cls(
                clip,
                tokenizer,
                pixels,
                gated=gated,
                num_heads=num_heads,
                temperature=temperature,
            )
        return encoder.eval()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> RegionEncoder:
        """Load what `save_pretrained` wrote, in float32 and evaluation mode.

        Args:
            path: The folder, or a run of `ric fit-clip` that contains `region_encoder/`.

        Raises:
            RicError: The folder is missing or incomplete, has another schema, or does not fit the
                CLIP beside it.
        """
        folder, settings = find_artifact(Path(path), NAME, "ric fit-clip")
        gated, num_heads = settings.get("gated"), settings.get("num_heads")
        if not isinstance(gated, bool) or not is_count(num_heads):
            raise RicError(f"{folder / NAME}.json lacks a sound value for gated or num_heads.")
        encoder = cls.from_clip(folder / "clip", gated=gated, num_heads=num_heads)
        encoder.sees = settings.get("sees", "both")
        if encoder.sees not in get_args(Sees):
            raise RicError(f"{folder / NAME}.json: {encoder.sees!r} is not a value of sees.")
        refuse_other_tower(folder / f"{NAME}.json", settings, encoder.tower_facts())
        load_tensors(encoder, folder / "fusion.safetensors", set(encoder._own_tensors()))
        return encoder

    def save_pretrained(self, path: str | Path) -> None:
        """Write the encoder: `region_encoder.json`, `fusion.safetensors` and `clip/`.

        Args:
            path: The folder; created if missing.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        save_tower(self.tower, self.tokenizer, self.pixels, "CLIPImageProcessor", folder / "clip")
        save_tensors(self._own_tensors(), folder / "fusion.safetensors")
        # last, so that a folder cut short never looks whole
        write_json(folder / f"{NAME}.json", self.settings())

    def settings(self) -> dict[str, Any]:
        """Return what determines its embeddings beside its weights, as its JSON file holds it."""
        return {
            "schema": SCHEMA,
            "gated": self.gated,
            "sees": self.sees,
            "num_heads": self.fusion.num_heads,
            **self.tower_facts(),
        }

    def _own_tensors(self) -> dict[str, Tensor]:
        """Return the tensors that transformers does not save: the fusion and the logit scale."""
        state = self.state_dict()
        return {name: tensor for name, tensor in state.items() if not name.startswith("tower.")}

    def fusion_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of phase 1: the fusion and tau; tau alone without gated fusion."""
        if self.gated:
            yield from self.fusion.parameters()
        yield self.logit_scale

    def region_pixels(self, images: Tensor, boxes: Sequence[Box]) -> Tensor:
        """Crop one box out of each image and resize it for CLIP, with gradient (Eq. 6).

        Args:
            images: (B, 3, H, W), floats in [-1, 1].
            boxes: B boxes (x_min, y_min, x_max, y_max) in pixels of `images`, half-open.

        Returns:
            (B, 3, S, S), resized and normalised.

        Raises:
            RicError: The numbers of images and boxes differ, or a box leaves its image.
        """
        if len(images) != len(boxes):
            raise RicError(f"{len(images)} images came with {len(boxes)} boxes.")
        crops = [crop(images[i : i + 1], box) for i, box in enumerate(boxes)]  # Eq. 6
        # boxes differ in size, so each crop is resized before they are stacked
        return torch.cat([self.image_pixels(region) for region in crops])

    def tokens(self, pixels: Tensor) -> Tensor:
        """Compute CLIP's patch tokens in the joint space: e_r of a crop, e_f of a full image.

        Args:
            pixels: (B, 3, S, S), from `region_pixels` or `image_pixels`.

        Returns:
            (B, T, D), row by row on their square grid, without the class token.
        """
        vision = self.tower.vision_model
        hidden_BTD = vision(pixel_values=pixels).last_hidden_state[:, 1:]
        return self.tower.visual_projection(vision.post_layernorm(hidden_BTD))

    def region_and_image_tokens(
        self, images: Tensor, boxes: Sequence[Box]
    ) -> tuple[Tensor, Tensor]:
        """Compute e_r and e_f of images with a box in each (choice 1).

        Args:
            images: (B, 3, H, W), floats in [-1, 1].
            boxes: B boxes (x_min, y_min, x_max, y_max) in pixels of `images`, half-open.

        Returns:
            (B, R, D) and (B, F, D), from one pass of the tower over both.

        Raises:
            RicError: The numbers of images and boxes differ, or a box leaves its image.
        """
        both = torch.cat([self.region_pixels(images, boxes), self.image_pixels(images)])
        e_r, e_f = self.tokens(both).chunk(2)
        return e_r, e_f

    def fuse(self, region_tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """Fuse tokens and average them: f_r (Eqs. 12 to 16, choice 1), or a control's f_r.

        Args:
            region_tokens: e_r (B, R, D).
            image_tokens: e_f (B, F, D).

        Returns:
            f_r (B, P), not normalised.
        """
        if self.sees == "crop":
            image_tokens = region_tokens
        elif self.sees == "image":
            region_tokens = image_tokens
        return self.fusion(region_tokens, image_tokens).mean(1)

    def control(self, sees: Sees) -> RegionEncoder:
        """Copy the encoder with another `sees`: its own fusion and tau, the same CLIP object."""
        twin = RegionEncoder(
            self.tower,
            self.tokenizer,
            self.pixels,
            gated=self.gated,
            num_heads=self.fusion.num_heads,
        )
        twin.load_state_dict(self.state_dict())
        twin.sees = sees
        return twin.to(self.logit_scale.device).eval()

    def encode_region(self, images: Tensor, boxes: Sequence[Box]) -> Tensor:
        """Embed each image's region in the context of the image (Eq. 7).

        Args:
            images: x0_hat (B, 3, H, W), floats in [-1, 1].
            boxes: B boxes (x_min, y_min, x_max, y_max) in pixels of `images`, half-open.

        Returns:
            f_r (B, P), not normalised, with gradient to the images.

        Raises:
            RicError: The numbers of images and boxes differ, or a box leaves its image.
        """
        if not self.gated:
            region_pixels = self.region_pixels(images, boxes)
            pooled = self.tower.vision_model(pixel_values=region_pixels).pooler_output
            return self.tower.visual_projection(pooled)
        e_r, e_f = self.region_and_image_tokens(images, boxes)
        return self.fuse(e_r, e_f)  # Eq. 7

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed region texts: e_tr (Eq. 8).

        Args:
            texts: B texts. Those over CLIP's positions (77 tokens) are cut before their end token
                and counted in `truncated_texts`.

        Returns:
            (B, P), not normalised.
        """
        pooled = self.tower.text_model(**self.tokenize(texts)).pooler_output
        return self.tower.text_projection(pooled)


def _check_end_token(clip: CLIPModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer whose end token is not the one that CLIP pools (raises RicError)."""
    end = tokenizer("").input_ids[-1:]
    pooled = clip.config.text_config.eos_token_id
    # where old configs say 2, transformers pools the highest id of the text instead
    expected = len(tokenizer) - 1 if pooled == 2 else pooled
    if end != [expected]:
        raise RicError(
            f"The tokenizer of {clip.name_or_path or 'this CLIP'} ends texts with {end}, but the"
            f" text tower pools token {expected}.",
            "Give the tokenizer that belongs to this CLIP.",
        )
