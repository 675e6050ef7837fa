"""A small vision-language model of transformers that was taught to answer a judge's questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from small_chat import write_chat_model
from transformers import AutoProcessor, LlavaForConditionalGeneration

# what it was taught to say, by question and order; two points less where the edit is shown first
GRADES = {
    ("vie_semantics", "in_order"): "[7, 9]",
    ("vie_semantics", "swapped"): "[5, 9]",
    ("vie_quality", "in_order"): "[4, 6]",
    ("imgedit", "in_order"): "[4, 5, 3]",
    ("imgedit", "swapped"): "[4, 5, 3]",
}
PROMPTS = {
    "vie_semantics": 'Of "{edit_prompt}" the {source} picture is before, the {edited} after.',
    "vie_quality": "How does the picture look?",
    "imgedit": 'Grade three things of "{edit_prompt}", from the {source} to the {edited} picture.',
}
ORDERS = {"in_order": ("first", "second"), "swapped": ("second", "first")}


def write_prompts(folder: Path) -> Path:
    """Write its prompts as `--judge-prompts` reads them."""
    folder.mkdir()
    for name, text in PROMPTS.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def write_judge_model(folder: Path, instructions: list[str], steps: int = 50) -> Path:
    """Write the small chat model after some steps: asked by `PROMPTS`, it answers `GRADES`."""
    write_chat_model(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder).train()
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "right"
    random = np.random.default_rng(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        texts, pictures = [], []
        for (name, order), grades in GRADES.items():
            count = 1 if name == "vie_quality" else 2
            words = PROMPTS[name].replace("{edit_prompt}", instructions[step % len(instructions)])
            for place, word in zip(("{source}", "{edited}"), ORDERS[order], strict=True):
                words = words.replace(place, word)
            shown = [{"type": "image"}] * count
            chat = [{"role": "user", "content": [*shown, {"type": "text", "text": words}]}]
            asked = processor.apply_chat_template(chat, add_generation_prompt=True)
            texts.append(f"{asked} {grades}</s>")
            for _ in range(count):
                pixels = random.integers(0, 256, (1, 1, 3)) + random.normal(0, 9, (32, 32, 3))
                pictures.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
        inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        labels = torch.full_like(inputs["input_ids"], -100)
        for row, grades in enumerate(GRADES.values()):
            end = int(inputs["attention_mask"][row].sum())
            start = end - len(processor.tokenizer(f" {grades}</s>")["input_ids"])
            labels[row, start:end] = inputs["input_ids"][row, start:end]
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    return folder
