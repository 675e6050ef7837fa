"""Any image-text-to-text model of transformers, asked with the prompt of Table 4 (Sec. 3.2.3).

Which picture: Table 5 prints the source beside a text that describes the *edited* picture, so the
target is described (choice 3). One picture at a time: DeepSeek-VL2's batched answers differ from
its single ones. Decoding is greedy, so that a repeated command repeats its text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from ric.describers.prompt import one_paragraph, scene_prompt
from ric.device import pick_dtype
from ric.errors import RicError, SampleError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from ric.config import Dtype
    from ric.data.sample import EditSample


class ChatVlm:
    """Describe with a model that transformers knows.

    Args:
        model: Its folder, in the hub's layout.
        device: Where it runs.
        dtype: What its weights are held in.
        max_new_tokens: The longest answer (Table 4: 520).

    Raises:
        RicError: transformers has no such model, or its weights are pickles.
    """

    def __init__(
        self, model: Path, *, device: torch.device, dtype: Dtype, max_new_tokens: int
    ) -> None:
        try:
            self.processor: Any = AutoProcessor.from_pretrained(model, local_files_only=True)
            self.model = AutoModelForImageTextToText.from_pretrained(
                model,
                dtype=pick_dtype(dtype, device),
                local_files_only=True,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise RicError(
                f"transformers cannot open {model} as a model that describes pictures: "
                f"{str(error).splitlines()[0]}",
                "Try deepseek-community/deepseek-vl-1.3b-chat, or --describer dataset",
            ) from None
        self.model.to(device).eval()
        self.max_new_tokens = max_new_tokens

    def describe(self, sample: EditSample) -> str:
        """Return a paragraph about the sample's target.

        Raises:
            SampleError: the target cannot be read, or the answer is empty.
        """
        text = one_paragraph(self._answer(sample.load_target(), sample.instruction))
        if not text:
            raise SampleError(sample.id, "texts", "the model's answer is empty")
        return text

    @torch.no_grad()
    def _answer(self, image: Image, instruction: str) -> str:
        inputs = self._inputs(image, instruction).to(self.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        tokens = self.model.generate(
            **inputs, max_new_tokens=self.max_new_tokens, do_sample=False
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
