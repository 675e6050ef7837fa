"""The scene judge: BLIP's contrastive head over the whole image (Sec. 3.2.1, Eq. 9).

BLIP reads long texts (512 tokens), which suits the paragraph about the scene. Both embeddings come
from the contrastive head of `BlipForImageTextRetrieval`: each tower's projected first token,
without cross-attention. The matching head and the cross-attention layers are not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BlipForImageTextRetrieval, PreTrainedTokenizerBase

from ric.errors import RicError
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
from ric.pretrained import load_tokenizer, refuse_foreign_words

# Shape letters: B batch, Q width of the joint space.

NAME = "scene_encoder"
UNUSED = ("itm_head", "crossattention")


class SceneEncoder(Judge):
    """Embed whole images and paragraphs about them in one space (Eq. 9).

    Attributes:
        max_text_tokens: Longest text in tokens, at most the text tower's positions.
        width: Q, the joint space's width.
        truncated_texts: How many texts were longer than that and were cut.
    """

    def __init__(
        self,
        blip: BlipForImageTextRetrieval,
        tokenizer: PreTrainedTokenizerBase,
        pixels: PixelNumbers,
        *,
        max_text_tokens: int = 512,
        temperature: float = 0.07,
    ) -> None:
        """Wrap a BLIP; `from_blip` and `from_pretrained` read files.

        Args:
            blip: A `BlipForImageTextRetrieval`.
            tokenizer: Its fast tokenizer.
            pixels: Its input size, mean and std.
            max_text_tokens: Longest text in tokens.
            temperature: tau of Eq. 11 at the start.

        Raises:
            RicError: `max_text_tokens` is below 3, which leaves no room for a word.
        """
        if max_text_tokens < 3:
            raise RicError(f"max_text_tokens is {max_text_tokens}; a text needs 3 or more.")
        super().__init__(
            blip,
            tokenizer,
            pixels,
            max_text_tokens=min(max_text_tokens, blip.config.text_config.max_position_embeddings),
            temperature=temperature,
            unused=UNUSED,
        )
        self.width = blip.config.image_text_hidden_size

    @classmethod
    def from_blip(
        cls, path: str | Path, *, max_text_tokens: int = 512, temperature: float = 0.07
    ) -> SceneEncoder:
        """Start from a pretrained BLIP.

        Args:
            path: A local folder with a `BlipForImageTextRetrieval` and its tokenizer.
            max_text_tokens: Longest text in tokens (Sec. 3.2.1: 512).
            temperature: tau of Eq. 11 at the start.

        Raises:
            RicError: The folder is missing, holds something else, or has only pickled weights.
        """
        folder = Path(path)
        blip = load_tower(BlipForImageTextRetrieval, folder, "blip", UNUSED)
        pixels = load_pixel_numbers(folder, blip.config.vision_config.image_size)
        tokenizer = load_tokenizer(folder)
        refuse_foreign_words(folder, tokenizer, blip.config.text_config.vocab_size)
        encoder = cls(
            blip, tokenizer, pixels, max_text_tokens=max_text_tokens, temperature=temperature
        )
        return encoder.eval()

    @classmethod
    def from_pretrained(cls, path: str | Path) -> SceneEncoder:
        """Load what `save_pretrained` wrote, in float32 and evaluation mode.

        Args:
            path: The folder, or a run of `ric fit-blip` that contains `scene_encoder/`.

        Raises:
            RicError: The folder is missing or incomplete, has another schema, or does not fit the
                BLIP beside it.
        """
        folder, settings = find_artifact(Path(path), NAME, "ric fit-blip")
        max_text_tokens = settings.get("max_text_tokens")
        if not is_count(max_text_tokens):
            raise RicError(f"{folder / NAME}.json lacks a sound value for max_text_tokens.")
        encoder = cls.from_blip(folder / "blip", max_text_tokens=max_text_tokens)
        refuse_other_tower(folder / f"{NAME}.json", settings, encoder.tower_facts())
        load_tensors(encoder, folder / "temperature.safetensors", {"logit_scale"})
        return encoder

    def save_pretrained(self, path: str | Path) -> None:
        """Write the encoder: `scene_encoder.json`, `temperature.safetensors` and `blip/`.

        Args:
            path: The folder; created if missing.

        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        save_tower(self.tower, self.tokenizer, self.pixels, "BlipImageProcessor", folder / "blip")
        save_tensors({"logit_scale": self.logit_scale}, folder / "temperature.safetensors")
        # last, so that a folder cut short never looks whole
        write_json(folder / f"{NAME}.json", self.settings())

    def settings(self) -> dict[str, Any]:
        """Return what determines its embeddings beside its weights, as its JSON file holds it."""
        return {
            "schema": SCHEMA,
            "max_text_tokens": self.max_text_tokens,
            **self.tower_facts(),
        }

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed whole images: e_f of Eq. 9.

        Args:
            images: x0_hat (B, 3, H, W), floats in [-1, 1].

        Returns:
            (B, Q), not normalised, with gradient to the images.
        """
        hidden = self.tower.vision_model(pixel_values=self.image_pixels(images)).last_hidden_state
        return self.tower.vision_proj(hidden[:, 0])

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Embed scene paragraphs: e_tf of Eq. 9.

        Args:
            texts: B texts. Those over `max_text_tokens` are cut before their end token and counted
                in `truncated_texts`.

        Returns:
            (B, Q), not normalised.
        """
        hidden = self.tower.text_encoder(**self.tokenize(texts)).last_hidden_state
        return self.tower.text_proj(hidden[:, 0])
