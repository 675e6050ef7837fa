"""Any image-text-to-text model of transformers, by its own chat template (Sec. 3.2.3, Table 4).

Which picture: Table 5 prints the source beside a text that describes the *edited* picture, so the
target is described (choice 3). The first answer is greedy, so that a repeated command repeats its
text.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from ric.describers.deepseek_vl2.architecture import OTHERS
from ric.describers.describer import BatchDescriber, CannotAnswer
from ric.describers.quality import Answer
from ric.describers.sampling import SeededNoise
from ric.device import pick_dtype
from ric.errors import RicError, first_line
from ric.model_files import require_whole
from ric.pretrained import errors_in_one_line, load_network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor

    from ric.config import Bits, DescribeConfig
    from ric.data.sample import EditSample
    from ric.describers.requests import Request


class ChatVlm(BatchDescriber["list[Image]"]):
    """Describe with a model that transformers supports.

    A captioner without a chat, such as BLIP, gets no prompt: it would only repeat a long one.

    Args:
        model: Its folder, in the hub's layout.
        config: The precision of its weights, the longest answer, and how many are given at once.
        device: Where it runs.

    Raises:
        RicError: transformers does not support the model, it needs custom code, its weights are
            pickles, or some of them are missing.
    """

    is_model = True

    def __init__(self, model: Path, config: DescribeConfig, device: torch.device) -> None:
        """Load the processor and the network; see the class."""
        require_whole(model, "describer")
        with errors_in_one_line(f"transformers cannot open the processor in {model}", OTHERS):
            # unset, it would ask on the terminal whether to run the folder's own code
            self.processor: Any = AutoProcessor.from_pretrained(
                model, local_files_only=True, trust_remote_code=False
            )
        tokenizer = getattr(self.processor, "tokenizer", None)
        if tokenizer is None:
            raise RicError(f"{model} has no processor of both pictures and texts.", OTHERS)
        tokenizer.padding_side = "left"  # all answers begin at one place
        if tokenizer.pad_token is None:  # paddings are masked: any token will do
            tokenizer.pad_token = tokenizer.eos_token
        self.reads_prompt = getattr(self.processor, "chat_template", None) is not None
        dtype = pick_dtype(config.dtype, device)
        self.model = load_network(
            AutoModelForImageTextToText,
            model,
            dtype=dtype,
            hint=OTHERS,
            **(_quantised(config.load_in, dtype, device) if config.load_in else {}),
        )
        if not config.load_in:  # those that are quantised are where they run
            self.model.to(device)
        self.max_new_tokens = config.max_new_tokens
        self.batch_size = config.batch_size
        text_config = self.model.config.get_text_config(decoder=True)
        # BLIP fails past its last position: it has 512, and Table 4 asks for 520 tokens
        self._positions = getattr(text_config, "max_position_embeddings", sys.maxsize)

    def length(self, sample: EditSample) -> int:
        """Return a picture's pixels, with which its tokens grow in many models."""
        width, height = sample.picture_size()
        return width * height

    def prepare(self, request: Request) -> list[Image]:
        """Decode the pictures (raises SampleError if one cannot be read)."""
        return request.load_pictures()

    def answer_batch(
        self, batch: Sequence[tuple[Request, list[Image]]], between_steps: Callable[[], None]
    ) -> list[Answer]:
        """Answer requests together.

        Raises:
            CannotAnswer: the processor refuses a picture, or the prompts leave no room for answers.
        """
        try:
            inputs = self._inputs(batch)
        except Exception as error:  # each processor has refusals of its own, of any class
            raise CannotAnswer(f"the model's processor refuses it: {first_line(error)}") from error
        inputs = inputs.to(self.model.device)
        # a captioner's answer starts with a token of its own
        asked = inputs["input_ids"].shape[1] if "input_ids" in inputs else 1
        if asked >= self._positions:
            raise CannotAnswer(f"the prompt has {asked} tokens; the model reads {self._positions}")
        longest = min(self.max_new_tokens, self._positions - asked)
        requests = [request for request, _ in batch]
        return self._decode(inputs, requests, longest, between_steps)

    @torch.no_grad()
    def _decode(
        self,
        inputs: Any,
        requests: Sequence[Request],
        longest: int,
        between_steps: Callable[[], None],
    ) -> list[Answer]:
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        seeds = [request.answer_seed for request in requests]
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=longest,
            do_sample=False,
            num_beams=1,
            logits_processor=LogitsProcessorList([SeededNoise(seeds)]),
            stopping_criteria=StoppingCriteriaList([_StopOnRequest(between_steps)]),
        )
        # a decoder-only model repeats its prompt before the answer
        prompt = inputs.get("input_ids")
        start = 0
        if prompt is not None and torch.equal(tokens[:, : prompt.shape[1]], prompt):
            start = prompt.shape[1]
        return [self._answer_of(row, longest) for row in tokens[:, start:]]

    def _answer_of(self, tokens: Tensor, longest: int) -> Answer:
        """Read an answer's tokens, which are filled up after the token that ends it."""
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        places = [int(place) for place in range(len(tokens)) if int(tokens[place]) in ends]
        length = places[0] + 1 if places else len(tokens)
        text = self.processor.decode(tokens[:length], skip_special_tokens=True)
        return Answer(text, length, ended=bool(places) or length < longest)

    def _inputs(self, batch: Sequence[tuple[Request, list[Image]]]) -> Any:
        if not self.reads_prompt:
            # of a region's two pictures the crop: a captioner takes one
            return self.processor(
                images=[pictures[-1] for _, pictures in batch], return_tensors="pt"
            )
        chats = [
            [
                {
                    "role": "user",
                    "content": [
                        *({"type": "image", "image": picture} for picture in pictures),
                        {"type": "text", "text": request.prompt},
                    ],
                }
            ]
            for request, pictures in batch
        ]
        return self.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            padding=len(chats) > 1,
        )


class _StopOnRequest(StoppingCriteria):
    """Calls a function after each token; it raises if the command is to stop."""

    def __init__(self, between_steps: Callable[[], None]) -> None:
        self.between_steps = between_steps

    def __call__(self, input_ids: Tensor, scores: Tensor, **options: Any) -> Tensor:
        self.between_steps()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def _quantised(load_in: Bits, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return how transformers is told to hold weights in 8 or 4 bits, by bitsandbytes."""
    # it says at every product that it computes in float16
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    how: dict[str, Any] = {"load_in_8bit": True}
    if load_in == "4bit":
        how = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": dtype,
        }
    return {"quantization_config": BitsAndBytesConfig(**how), "device_map": {"": device}}
