"""The network: SigLIP, the projector, and a mixture-of-experts language model that answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    DeepseekOcr2TextConfig,
    DeepseekOcr2TextModel,
    DeepseekOcr2TextPreTrainedModel,
    DynamicCache,
    SiglipVisionConfig,
    SiglipVisionModel,
)

if TYPE_CHECKING:
    from transformers import Cache

    from ric.describers.deepseek_vl2.architecture import Architecture
    from ric.describers.deepseek_vl2.processor import Batch


class Projector(nn.Module):
    """Turn squares of patches into tokens of the language model (VL2, Sec. 2.2).

    Args:
        width: Of a patch.
        ratio: The side of a square in patches.
        hidden: Of a token.
    """

    def __init__(self, width: int, ratio: int, hidden: int) -> None:
        """Create its two layers."""
        super().__init__()
        self.ratio = ratio
        self.layers = nn.ModuleDict(
            {"0": nn.Linear(width * ratio**2, hidden), "2": nn.Linear(hidden, hidden)}
        )

    def forward(self, patches_MPC: Tensor) -> Tensor:
        """Join the patches of M views, rows of a square grid, padded with zeros to whole squares.

        Returns:
            (M, N, D), where N is the square of `Architecture.side`.
        """
        grid = patches_MPC.transpose(1, 2).unflatten(2, (int(patches_MPC.shape[1] ** 0.5), -1))
        missing = -grid.shape[-1] % self.ratio
        padded = functional.pad(grid, (0, missing, 0, missing))
        squares = functional.unfold(padded, self.ratio, stride=self.ratio)
        return self.layers["2"](functional.gelu(self.layers["0"](squares.transpose(1, 2))))


class Language(DeepseekOcr2TextPreTrainedModel):
    """The language model of DeepSeek-OCR 2, which is that of VL2-Tiny, with its output layer.

    transformers has it without one. Its attention is plain, its router greedy: each token's six
    likeliest experts of 64, weighted by their probabilities, beside two shared ones.
    """

    def __init__(self, config: DeepseekOcr2TextConfig) -> None:
        """Create the layers."""
        super().__init__(config)
        self.model = DeepseekOcr2TextModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor,
        cache: Cache | None = None,
        *,
        last: int = 0,
    ) -> Tensor:
        """Return the logits of tokens, each of which sees those before it.

        Args:
            inputs_embeds: (B, T, D), of the tokens that are not in the cache yet.
            attention_mask: (B, C + T), 0 where padded, for the C tokens in the cache too. A token's
                position is the number of tokens before it, without padding.
            cache: Gets the keys and values of these tokens.
            last: Of so many positions at the end are logits computed; 0: of all.

        Returns:
            (B, T or `last`, V) in float32.
        """
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -inputs_embeds.shape[1] :]
        hidden = self.model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return self.lm_head(hidden[:, -last:]).float()


class Decoding(NamedTuple):
    """The rules by which answers are decoded.

    Attributes:
        longest: The most tokens of an answer.
        eos: The token that ends one.
        pad: What fills up an answer that has ended.
        scores: From logits (B, V) to those of which the largest is chosen: `SeededNoise`, which
            without seeds leaves them as they are.
        between_steps: Called before each token; raises if the command is to stop.
    """

    longest: int
    eos: int
    pad: int
    scores: Callable[[Tensor | None, Tensor], Tensor] = lambda tokens, logits: logits
    between_steps: Callable[[], None] = lambda: None


class Vl2(nn.Module):
    """DeepSeek-VL2-Tiny without its weights: see `load.load_vl2`.

    Args:
        architecture: Its sizes.
    """

    def __init__(self, architecture: Architecture) -> None:
        """Create the layers."""
        super().__init__()
        projector, hidden = architecture.projector, architecture.language["hidden_size"]
        self.vision = SiglipVisionModel(vision_config(architecture))
        self.projector = Projector(projector["input_dim"], projector["downsample_ratio"], hidden)
        self.image_newline = nn.Parameter(torch.empty(hidden))
        self.view_separator = nn.Parameter(torch.empty(hidden))
        self.language = Language(language_config(architecture))

    def group_experts(self) -> None:
        """Compute the experts of all tokens in one kernel, as a GPU likes it.

        Without it each expert that a token needs is computed in turn, the fastest on a CPU.
        """
        self.language.model.set_experts_implementation("grouped_mm")

    def encode(self, views_M3SS: Tensor) -> Tensor:
        """Encode M views in [-1, 1] to (M, N, D), the tokens of each in rows."""
        return self.projector(self.vision(views_M3SS).last_hidden_state)

    def lay_out(self, tokens_MND: Tensor, grid: tuple[int, int]) -> Tensor:
        """Arrange a picture's tokens as rows of the whole, a separator, and rows of all tiles.

        Args:
            tokens_MND: Of the whole picture and of its tiles.
            grid: How many tiles stand beside and above one another.

        Returns:
            (L, D); a row, which runs across all tiles, ends with `image_newline`.
        """
        side = int(tokens_MND.shape[1] ** 0.5)
        across, down = grid
        whole, tiles = tokens_MND[0].unflatten(0, (side, side)), tokens_MND[1:]
        joined = tiles.unflatten(1, (side, side)).unflatten(0, (down, across))
        joined = joined.transpose(1, 2).flatten(2, 3).flatten(0, 1)
        rows = [torch.cat([part, self._newlines(part)], dim=1) for part in (whole, joined)]
        return torch.cat([rows[0].flatten(0, 1), self.view_separator[None], rows[1].flatten(0, 1)])

    def embed(self, batch: Batch) -> Tensor:
        """Return the tokens (B, T, D) that the language model reads, pictures in their places."""
        words = self.language.model.embed_tokens(batch.tokens)
        if not batch.grids:
            return words
        counts = [1 + across * down for across, down in batch.grids]
        tokens = self.encode(batch.views).split(counts)
        pictures = [self.lay_out(one, grid) for one, grid in zip(tokens, batch.grids, strict=True)]
        return words.masked_scatter(batch.is_image[..., None], torch.cat(pictures))

    @torch.inference_mode()
    def answer(
        self,
        batch: Batch,
        how: Decoding,
        *,
        suffixes: Batch | None = None,
        prefix_of: Tensor | None = None,
    ) -> Tensor:
        """Answer token by token, keys and values cached.

        Args:
            batch: The questions; with `suffixes` their prefixes, each of which is computed once,
                however many questions share it.
            how: How tokens are chosen, and where answers end.
            suffixes: What follows the prefixes; B of them.
            prefix_of: (B,), the index of the prefix that each of them follows.

        Returns:
            (B, N), N <= `how.longest`: the answers alone, filled up with `how.pad`.
        """
        cache, mask = DynamicCache(), batch.attention_mask
        logits = self.language(self.embed(batch), mask, cache, last=1)[:, -1]
        if suffixes is not None and prefix_of is not None:
            cache.batch_select_indices(prefix_of)
            mask = torch.cat([mask[prefix_of], suffixes.attention_mask], dim=1)
            logits = self.language(self.embed(suffixes), mask, cache, last=1)[:, -1]
        ended = torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
        answers: list[Tensor] = []
        while len(answers) < how.longest:
            how.between_steps()
            if answers:
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                words = self.language.model.embed_tokens(answers[-1])[:, None]
                logits = self.language(words, mask, cache, last=1)[:, -1]
            chosen = how.scores(None, logits).argmax(-1).masked_fill(ended, how.pad)
            answers.append(chosen)
            ended |= chosen == how.eos
            if ended.all():
                break
        return torch.stack(answers, dim=1)

    def _newlines(self, rows: Tensor) -> Tensor:
        return self.image_newline.expand(len(rows), 1, -1)


def vision_config(architecture: Architecture) -> SiglipVisionConfig:
    """Name the sizes of the SigLIP tower as transformers does; VL2 does not use its head."""
    vision = architecture.vision
    return SiglipVisionConfig(
        hidden_size=vision["width"],
        intermediate_size=int(vision["width"] * vision["mlp_ratio"]),
        num_hidden_layers=vision["layers"],
        num_attention_heads=vision["heads"],
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_act="gelu_pytorch_tanh",
        layer_norm_eps=1e-6,
        vision_use_head=False,
    )


def language_config(architecture: Architecture) -> DeepseekOcr2TextConfig:
    """Name the sizes of the language model as transformers does."""
    sizes = dict(architecture.language)
    dense = sizes.pop("first_k_dense_replace")
    layers = sizes["num_hidden_layers"]
    return DeepseekOcr2TextConfig(
        **{key: value for key, value in sizes.items() if key != "rope_theta"},
        rope_parameters={"rope_type": "default", "rope_theta": sizes["rope_theta"]},
        mlp_layer_types=["dense" if layer < dense else "sparse" for layer in range(layers)],
        topk_method="greedy",
        bos_token_id=None,
        eos_token_id=None,  # decoding is given the tokenizer's
        experts_implementation="eager",
    )
