"""The describer: Table 4's prompt, a picture, and a greedy answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.describers.deepseek_vl2.architecture import read_architecture
from ric.describers.deepseek_vl2.load import load_vl2
from ric.describers.deepseek_vl2.processor import Processor
from ric.describers.prompt import paragraph_of, room_for_answer, scene_prompt
from ric.device import pick_dtype
from ric.errors import SampleError
from ric.model_files import require_whole

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from ric.config import Dtype
    from ric.data.sample import EditSample
    from ric.describers.deepseek_vl2.processor import Batch, Question


class DeepseekVl2:
    """Describe with DeepSeek-VL2-Tiny.

    Args:
        model: Its folder, in the hub's layout.
        device: Where it runs.
        dtype: The precision of its weights.
        max_new_tokens: The longest answer (Table 4: 520).

    Raises:
        RicError: the folder is incomplete, another size of DeepSeek-VL2, or its tensors are not
            those that its config.json describes.
    """

    def __init__(
        self, model: Path, *, device: torch.device, dtype: Dtype, max_new_tokens: int
    ) -> None:
        """Load the processor and the network; see the class."""
        require_whole(model, "describer")
        architecture = read_architecture(model)
        self.processor = Processor(model, architecture)
        self.network = load_vl2(model, architecture, pick_dtype(dtype, device), device)
        self.device = device
        self.max_new_tokens = max_new_tokens
        self._positions = int(architecture.language["max_position_embeddings"])

    def describe(self, sample: EditSample) -> str:
        """Return a paragraph about the sample's target.

        Raises:
            SampleError: the target cannot be read or is too narrow, the prompt leaves no room for
                an answer, or the answer is empty.
        """
        (text,) = self.describe_batch([sample])
        if isinstance(text, SampleError):
            raise text
        return text

    def describe_batch(self, samples: Sequence[EditSample]) -> list[str | SampleError]:
        """Return a paragraph about each sample's target, or why there is none.

        The samples are answered together, padded on the left. Paddings and batch sizes change the
        last bits of a product, so in bf16 a near tie may fall otherwise than alone.
        """
        asked: list[Question | SampleError] = []
        for sample in samples:
            try:
                asked.append(self._ask(sample))
            except SampleError as error:
                asked.append(error)
        questions = [one for one in asked if not isinstance(one, SampleError)]
        answers = iter(self._answer(self.processor.batch(questions)) if questions else ())
        results: list[str | SampleError] = []
        for sample, one in zip(samples, asked, strict=True):
            if isinstance(one, SampleError):
                results.append(one)
                continue
            try:
                results.append(paragraph_of(sample.id, next(answers)))
            except SampleError as error:
                results.append(error)
        return results

    def _ask(self, sample: EditSample) -> Question:
        image = sample.load_target()
        try:
            question = self.processor.ask(image, scene_prompt(sample.instruction))
        except ValueError as error:
            raise SampleError(sample.id, "target", str(error)) from error
        room_for_answer(sample.id, len(question.tokens), self._positions)
        return question

    def _answer(self, batch: Batch) -> list[str]:
        tokenizer = self.processor.tokenizer
        room = self._positions - batch.tokens.shape[1]
        answers = self.network.answer(
            batch.to(self.device),
            min(self.max_new_tokens, room),
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        )
        return [self.processor.text_of(answer) for answer in answers]
