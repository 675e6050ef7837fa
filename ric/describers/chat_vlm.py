"""Any image-text-to-text model of transformers, prompted as in Table 4 (Sec. 3.2.3).

Which picture: Table 5 prints the source beside a text that describes the *edited* picture, so the
target is described (choice 3). One picture at a time: models differ in how they pad. Decoding is
greedy, so that a repeated command repeats its text.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from ric.describers.prompt import paragraph_of, room_for_answer, scene_prompt
from ric.device import pick_dtype
from ric.model_files import require_whole
from ric.pretrained import load_network, told_in_one_line

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from PIL.Image import Image

    from ric.config import Dtype
    from ric.data.sample import EditSample


class ChatVlm:
    """Describe with a model that transformers supports.

    Args:
        model: Its folder, in the hub's layout.
        device: Where it runs.
        dtype: The precision of its weights.
        max_new_tokens: The longest answer (Table 4: 520).

    Raises:
        RicError: transformers does not support the model, it needs custom code, its weights are
            pickles, or some of them are missing.
    """

    def __init__(
        self, model: Path, *, device: torch.device, dtype: Dtype, max_new_tokens: int
    ) -> None:
        """Load the processor and the network; see the class."""
        hint = (
            "Try deepseek-ai/deepseek-vl2-tiny, deepseek-community/deepseek-vl-1.3b-chat, or"
            " --describer dataset"
        )
        require_whole(model, "describer")
        with told_in_one_line(f"transformers cannot open the processor in {model}", hint):
            # unset, it would ask on the terminal whether to run the folder's own code
            self.processor: Any = AutoProcessor.from_pretrained(
                model, local_files_only=True, trust_remote_code=False
            )
        self.model = load_network(
            AutoModelForImageTextToText, model, dtype=pick_dtype(dtype, device), hint=hint
        )
        self.model.to(device)
        self.max_new_tokens = max_new_tokens
        text_config = self.model.config.get_text_config(decoder=True)
        # BLIP fails past its last position: it has 512, and Table 4 asks for 520 tokens
        self._positions = getattr(text_config, "max_position_embeddings", sys.maxsize)

    def describe(self, sample: EditSample) -> str:
        """Return a paragraph about the sample's target.

        Raises:
            SampleError: the target cannot be read, the prompt leaves no room for an answer, or
                the answer is empty.
        """
        inputs = self._inputs(sample.load_target(), sample.instruction)
        # a captioner's answer starts with a token of its own
        asked = inputs["input_ids"].shape[1] if "input_ids" in inputs else 1
        room = room_for_answer(sample.id, asked, self._positions)
        return paragraph_of(sample.id, self._answer(inputs, min(self.max_new_tokens, room)))

    @torch.no_grad()
    def _answer(self, inputs: Any, max_new_tokens: int) -> str:
        inputs = inputs.to(self.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        tokens = self.model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1
        )
        # a decoder-only model repeats its prompt before the answer
        prompt = inputs.get("input_ids")
        start = 0
        if prompt is not None and torch.equal(tokens[:, : prompt.shape[1]], prompt):
            start = prompt.shape[1]
        return self.processor.batch_decode(tokens[:, start:], skip_special_tokens=True)[0]

    def _inputs(self, image: Image, instruction: str) -> Any:
        if getattr(self.processor, "chat_template", None) is None:
            # a plain captioner (BLIP) has no chat and would only repeat a long prompt
            return self.processor(images=image, return_tensors="pt")
        content = [
            {"type": "image", "image": image},
            {"type": "text", "text": scene_prompt(instruction)},
        ]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
