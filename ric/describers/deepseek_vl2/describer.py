"""The describer: several pictures and prompts at once, decoded greedily; retries are sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ric.describers.deepseek_vl2.architecture import read_architecture
from ric.describers.deepseek_vl2.load import load_vl2
from ric.describers.deepseek_vl2.network import Decoding
from ric.describers.deepseek_vl2.processor import Processor
from ric.describers.deepseek_vl2.tiles import best_resolution
from ric.describers.describer import BatchDescriber
from ric.describers.quality import Answer
from ric.describers.sampling import SeededNoise
from ric.device import pick_dtype
from ric.errors import SampleError
from ric.model_files import require_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample
    from ric.describers.deepseek_vl2.processor import Question
    from ric.describers.requests import Request


class DeepseekVl2(BatchDescriber["Question"]):
    """Describe with DeepSeek-VL2-Tiny.

    Args:
        model: Its folder, in the hub's layout.
        config: The precision of its weights, the longest answer, and how many are given at once.
        device: Where it runs.

    Raises:
        RicError: the folder is incomplete, another size of DeepSeek-VL2, or its tensors are not
            those that its config.json describes.
    """

    is_model = True
    reads_prompt = True

    def __init__(self, model: Path, config: DescribeConfig, device: torch.device) -> None:
        """Load the processor and the network; see the class."""
        require_whole(model, "describer")
        architecture = read_architecture(model)
        self.processor = Processor(model, architecture)
        self.network = load_vl2(model, architecture, pick_dtype(config.dtype, device), device)
        self.device = device
        self.max_new_tokens = config.max_new_tokens
        self.batch_size = config.batch_size
        self._positions = int(architecture.language["max_position_embeddings"])

    def length(self, sample: EditSample) -> int:
        """Count the tokens of a sample's picture, from its size alone."""
        architecture = self.processor.architecture
        width, height = best_resolution(sample.picture_size(), architecture.resolutions)
        return architecture.tokens_of((width // architecture.tile, height // architecture.tile))

    def prepare(self, request: Request) -> Question:
        """Tokenise a request (raises SampleError if it cannot be asked)."""
        name, pictures = request.sample.id, request.load_pictures()
        try:
            question = self.processor.ask(pictures, request.prompt)
        except ValueError as error:
            raise SampleError(name, request.image, str(error)) from error
        if len(question.tokens) >= self._positions:
            asked = f"the prompt has {len(question.tokens)} tokens"
            raise SampleError(name, "texts", f"{asked}; the model reads {self._positions}")
        return question

    def answer_batch(
        self, batch: Sequence[tuple[Request, Question]], between_steps: Callable[[], None]
    ) -> list[Answer]:
        """Answer requests together, padded on the left.

        Paddings and batch sizes change the last bits of a product, so in bf16 a near tie may fall
        otherwise than alone. Pictures that several requests of a batch show are read once.
        """
        tokenizer = self.processor.tokenizer
        longest = max(len(question.tokens) for _, question in batch)
        how = Decoding(
            min(self.max_new_tokens, self._positions - longest),
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
            SeededNoise([request.answer_seed for request, _ in batch]),
            between_steps,
        )
        return [self._answer_of(tokens, how.eos) for tokens in self._decode(batch, how)]

    def _answer_of(self, tokens: Tensor, eos: int) -> Answer:
        """Read an answer's tokens, which are filled up after the token that ends it."""
        ends = (tokens == eos).nonzero()
        length = int(ends[0]) + 1 if len(ends) else len(tokens)
        return Answer(self.processor.text_of(tokens[:length]), length, ended=bool(len(ends)))

    def _decode(self, asked: Sequence[tuple[Request, Question]], how: Decoding) -> Tensor:
        """Answer questions; what those about the same pictures share is computed once."""
        batch = self.processor.batch
        first: dict[tuple[str, ...], int] = {}
        prefix_of = [first.setdefault(request.shown, len(first)) for request, _ in asked]
        if len(first) == len(asked):
            whole = batch([question for _, question in asked])
            return self.network.answer(whole.to(self.device), how)
        parts = [self.processor.split_prefix(question) for _, question in asked]
        prefixes = [parts[prefix_of.index(number)][0] for number in range(len(first))]
        return self.network.answer(
            batch(prefixes).to(self.device),
            how,
            suffixes=batch([suffix for _, suffix in parts]).to(self.device),
            prefix_of=torch.tensor(prefix_of, device=self.device),
        )
