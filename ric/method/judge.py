"""The base of both judges: image and text input, a temperature, and the trained weights.

Choice 4, the temperature: tau of Eq. 11 is learnable and starts at 0.07. It is held as
logit_scale = log(1 / tau), as in CLIP, and the scale is kept at 100 or below by clamping the
parameter itself, as CLIP does: a clamp in the formula alone would cut its gradient, and the
parameter could never come back.

Texts that are too long: CLIP reads 77 tokens and pools the end token; BLIP reads 512. A longer text
loses its last words but keeps its end token, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ric.errors import RicError
from ric.method.judge_pixels import PixelNumbers, as_input

# Shape letters: B batch, L text tokens, S side of the tower's input in pixels.

MAX_LOGIT_SCALE = math.log(100)


class Judge(nn.Module):
    """A vision-language model whose embeddings are compared; base of both encoders.

    Attributes:
        truncated_texts: How many of the texts encoded so far were too long and were cut.
        width: Width of the embeddings that are compared.
    """

    width: int
    logit_scale: nn.Parameter
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        tower: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pixels: PixelNumbers,
        *,
        max_text_tokens: int,
        temperature: float = 0.07,
        unused: tuple[str, ...] = (),
    ) -> None:
        """Set up the temperature and the pixel numbers; the tower's used parameters are trainable.

        Args:
            tower: The transformers model.
            tokenizer: Its fast tokenizer, which ends every text with an end token.
            pixels: Its input size, mean and std.
            max_text_tokens: Longest text in tokens, end token included.
            temperature: tau at the start, above 0.
            unused: Parts of the names of parameters that the contrastive path does not use.

        Raises:
            RicError: The temperature is not greater than 0.
        """
        super().__init__()
        if temperature <= 0:
            raise RicError(f"The temperature is {temperature}, which must be greater than 0.")
        self.tower = tower
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.max_text_tokens = max_text_tokens
        self.truncated_texts = 0
        self._unused = unused
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.register_buffer("pixel_mean", torch.tensor(pixels.mean), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixels.std), persistent=False)
        self.freeze_backbone(False)

    def tower_facts(self) -> dict[str, int]:
        """Return the sizes that tell this tower from another."""
        vision = self.tower.config.vision_config
        return {
            "width": self.width,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "vocabulary": len(self.tokenizer),
        }

    @property
    def temperature(self) -> Tensor:
        """Return tau (a scalar with gradient), never below 1/100 (choice 4)."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        return (-self.logit_scale).exp()

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the tower's parameters on the contrastive path, which joint fitting trains.

        Others, such as BLIP's matching head, are never trained and stay as they were loaded.
        """
        for name, parameter in self.tower.named_parameters():
            if not any(part in name for part in self._unused):
                yield parameter

    def freeze_backbone(self, flag: bool = True) -> None:
        """Freeze the tower (False: unfreeze it); parameters it does not use stay frozen."""
        self.tower.requires_grad_(False)
        for parameter in self.backbone_parameters():
            parameter.requires_grad_(not flag)

    def image_pixels(self, images: Tensor) -> Tensor:
        """Resize and normalise images for the tower, with gradient (choice 2).

        Args:
            images: (B, 3, H, W), floats in [-1, 1].

        Returns:
            (B, 3, S, S), resized and normalised.
        """
        return as_input(images, self.pixels.size, self.pixel_mean, self.pixel_std)

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Turn texts into padded token ids on the model's device, cutting long ones.

        A text over `max_text_tokens` keeps its end token and adds one to `truncated_texts`.

        Args:
            texts: B texts, at least one.

        Returns:
            `input_ids` and `attention_mask`, each (B, L).
        """
        encoded = self.tokenizer(list(texts), truncation=False, padding=False, verbose=False)
        limit = self.max_text_tokens
        self.truncated_texts += sum(len(ids) > limit for ids in encoded["input_ids"])
        # the last token ends the text: CLIP pools there
        cut = [
            ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]
            for ids in encoded["input_ids"]
        ]
        # padding with 0 is safe: it is masked, and CLIP never pools it in place of the end token
        ids_BL = pad_sequence([torch.tensor(ids) for ids in cut], batch_first=True)
        lengths_B = torch.tensor([len(ids) for ids in cut])
        mask_BL = (torch.arange(ids_BL.shape[1]) < lengths_B[:, None]).long()
        device = self.logit_scale.device
        return {"input_ids": ids_BL.to(device), "attention_mask": mask_BL.to(device)}
