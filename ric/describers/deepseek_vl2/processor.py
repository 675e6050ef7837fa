"""A picture and a question as the tokens and views that DeepSeek-VL2 reads, and its answer as text.

The conversation is `<|User|>: <image>`, a line break, the question, `<|Assistant|>:`; `<image>` is
repeated for every token of the picture. A second picture follows in a line of its own. The
tokenizer splits words into bytes, so a space is part of the word after it. transformers'
LlamaTokenizer, which the hub's files name, would put another splitter in its place and lose the
spaces (transformers issue 45488): tokenizer.json alone is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from ric.describers.deepseek_vl2.architecture import ASSISTANT, GROUNDING, IMAGE, USER
from ric.describers.deepseek_vl2.tiles import best_resolution, views
from ric.errors import RicError
from ric.pretrained import errors_in_one_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ric.describers.deepseek_vl2.architecture import Architecture

PAD = "<\uff5c\u2581pad\u2581\uff5c>"
SPACED = "A red ball,  left of 2 white cups."


class Question(NamedTuple):
    """A question about a picture, or about several, as the network reads it.

    Attributes:
        tokens: (T,) with the pictures' places filled with the image token.
        views: (M, 3, S, S) in [-1, 1]: of each picture the whole, and then its tiles.
        grids: How many tiles of each picture stand beside and above one another.
    """

    tokens: Tensor
    views: Tensor
    grids: tuple[tuple[int, int], ...]


class Batch(NamedTuple):
    """Questions side by side, padded on the left, so that all answers begin at one place.

    Attributes:
        tokens: (B, T).
        attention_mask: (B, T), 0 where padded.
        is_image: (B, T), true where a picture's token belongs.
        views: (M, 3, S, S): the views of all pictures, one picture after the other.
        grids: Each picture's grid.
    """

    tokens: Tensor
    attention_mask: Tensor
    is_image: Tensor
    views: Tensor
    grids: tuple[tuple[int, int], ...]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            self.tokens.to(device),
            self.attention_mask.to(device),
            self.is_image.to(device),
            self.views.to(device),
            self.grids,
        )


class Processor:
    """Turn pictures and questions into batches, and tokens into text.

    Args:
        folder: The model's.
        architecture: What its files say.

    Attributes:
        tokenizer: With the tokens of images and roles; the released code adds those that its
            vocabulary lacks, in this order.

    Raises:
        RicError: the tokenizer cannot be read, has more tokens than the network, or loses spaces.
    """

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        """Load the tokenizer; see the class."""
        with errors_in_one_line(f"Cannot load the tokenizer in {folder}"):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
            if tokenizer.pad_token is None:
                tokenizer.add_special_tokens({"pad_token": PAD})
            added = [IMAGE, *GROUNDING, USER, ASSISTANT]
            tokenizer.add_tokens(added, special_tokens=True)
        self.tokenizer: PreTrainedTokenizerBase = tokenizer
        self.image_token, self.user, self.assistant = tokenizer.convert_tokens_to_ids(
            [IMAGE, USER, ASSISTANT]
        )
        words = architecture.language["vocab_size"]
        if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
            raise RicError(f"The tokenizer in {folder} has no token that begins or ends a text.")
        if len(tokenizer) > words:
            raise RicError(
                f"The tokenizer in {folder} has {len(tokenizer)} tokens, its network {words}.",
                "Restore the tokenizer that belongs to it.",
            )
        if self.text_of(self._encode(SPACED)) != SPACED:
            raise RicError(
                f"The tokenizer in {folder} does not give a text back as it was: {SPACED!r}.",
                "Restore its tokenizer.json.",
            )
        self.architecture = architecture

    def ask(self, images: Sequence[Image], text: str) -> Question:
        """Ask about pictures.

        Args:
            images: In RGB; the released code cuts them into tiles where they are one or two.
            text: Read as plain text, even where it looks like a special token.

        Raises:
            ValueError: A picture is too narrow.
        """
        tile = self.architecture.tile
        resolutions = [best_resolution(one.size, self.architecture.resolutions) for one in images]
        grids = tuple((width // tile, height // tile) for width, height in resolutions)
        ids = [self.tokenizer.bos_token_id, self.user, *self._encode(": ")]
        for number, grid in enumerate(grids):
            ids += self._encode("\n") if number else []
            ids += [self.image_token] * self.architecture.tokens_of(grid)
        ids += [*self._encode(f"\n{text.strip()}\n\n"), self.assistant, *self._encode(":")]
        seen = [
            views(image, resolution, tile)
            for image, resolution in zip(images, resolutions, strict=True)
        ]
        return Question(torch.tensor(ids), torch.cat(seen), grids)

    def split_prefix(self, question: Question) -> tuple[Question, Question]:
        """Split a question after its pictures: those about the same pictures share the prefix."""
        end = int((question.tokens == self.image_token).nonzero()[-1]) + 1
        tokens = question.tokens
        return question._replace(tokens=tokens[:end]), Question(
            tokens[end:], question.views[:0], ()
        )

    def batch(self, questions: Sequence[Question]) -> Batch:
        """Pad questions on the left to one length."""
        longest = max(len(question.tokens) for question in questions)
        tokens = torch.full((len(questions), longest), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(tokens)
        for row, question in enumerate(questions):
            tokens[row, longest - len(question.tokens) :] = question.tokens
            mask[row, longest - len(question.tokens) :] = 1
        return Batch(
            tokens,
            mask,
            tokens == self.image_token,
            torch.cat([question.views for question in questions]),
            tuple(grid for question in questions for grid in question.grids),
        )

    def text_of(self, tokens: Sequence[int] | Tensor) -> str:
        """Decode an answer, without special tokens and with its spaces as they are."""
        return self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
