"""`ric tiny captioner`: a BLIP that writes a scene's paragraph from its pixels alone.

It learns the paragraphs of both pictures, without the sentence about where the edit was, which
cannot be seen. BLIP's captioner has the same vision tower as its matcher, so `--vision RUN` starts
with that of a fitted scene judge.

A decoder that reads its own "purple" before it names the thing learns which kinds are purple in
train, and misnames a purple thing of any other kind. With `colour_noise`, that share of the colour
words it reads (not of those it must predict) is replaced by random colours, so it has to recognise
the kind in the picture.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from transformers import BlipForConditionalGeneration, BlipProcessor

from ric.data.batches import to_unit
from ric.data.drawn_scenes import edit_of_sample
from ric.device import draw_generator, pick_device
from ric.method.judge_files import load_pixel_numbers
from ric.method.judge_pixels import as_input
from ric.method.scene_encoder import SceneEncoder
from ric.models.locate import locate
from ric.progress import Progress, Silent
from ric.recipes.tiny.pictures import load_drawn
from ric.recipes.tiny.steps import Lesson, batch_of_step, train_steps
from ric.runs.artifacts import artifact_folder
from ric.scenes.things import COLOURS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ric.config import TinyCaptionerConfig
    from ric.runs.run import RunDir

ASKED = 64  # held-out pictures described at each measurement
LONGEST = 256  # tokens


def train_captioner(
    config: TinyCaptionerConfig, run: RunDir, progress: Progress | None = None
) -> Path:
    """Train the captioner on DATA; return the run's folder `captioner`.

    Raises:
        RicError: there is no usable sample, or the loss was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    base = locate(config, "base", run)
    processor = BlipProcessor.from_pretrained(base)
    captioner = BlipForConditionalGeneration.from_pretrained(base, dtype=torch.float32).to(device)
    if config.vision is not None:
        judge = locate(config, "vision", run)
        eyes = SceneEncoder.from_pretrained(judge).tower.vision_model
        captioner.vision_model.load_state_dict(eyes.state_dict())
    numbers = load_pixel_numbers(base, config.image_size)
    mean, std = (torch.tensor(values, device=device) for values in (numbers.mean, numbers.std))

    def pixels_of(some: Sequence[Tensor]) -> Tensor:
        images = to_unit(torch.stack(list(some)).to(device))
        return as_input(images, numbers.size, mean, std)

    trained, held_out = load_drawn(config, run, progress)
    tokenizer = processor.tokenizer
    shown = [
        (picture, _caption_ids(tokenizer, text))
        for one in trained
        for picture, text in ((one.source, one.source_text), (one.target, seen_of(one.scene_text)))
    ]
    colours = torch.tensor(tokenizer.convert_tokens_to_ids(list(COLOURS)), device=device)

    def loss_of(step: int) -> dict[str, Tensor]:
        batch = [shown[index] for index in batch_of_step(len(shown), config, step)]
        padded = torch.nn.utils.rnn.pad_sequence(
            [ids for _, ids in batch], batch_first=True, padding_value=tokenizer.pad_token_id
        ).to(device)
        there = padded != tokenizer.pad_token_id
        draw = draw_generator(config.seed, "colour noise", step)
        loss = captioner(
            pixel_values=pixels_of([picture for picture, _ in batch]),
            input_ids=miscoloured(padded, colours, config.colour_noise, draw),
            attention_mask=there.long(),
            labels=padded.masked_fill(~there, -100),
        ).loss
        return {"loss": loss}

    def measure() -> dict[str, float]:
        asked = held_out[:ASKED]
        texts = _captions(captioner, tokenizer, pixels_of([sample.target for sample in asked]))
        return {"val_names_edited": names_edited([sample.id for sample in asked], texts)}

    train_steps(Lesson({"captioner": captioner}, loss_of, measure), config, run, progress)
    with artifact_folder(run, "captioner") as folder:
        captioner.save_pretrained(folder)
        processor.save_pretrained(folder)
    return run.path / "captioner"


def _captions(
    captioner: BlipForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, pixels: Tensor
) -> list[str]:
    tokens = captioner.generate(
        pixel_values=pixels, max_new_tokens=LONGEST, do_sample=False, num_beams=1
    )
    texts: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts


def miscoloured(ids: Tensor, colours: Tensor, share: float, draw: torch.Generator) -> Tensor:
    """Replace a share of a text's colour words by random colours.

    Args:
        ids: (N, L), tokens.
        colours: (K,), the token of each colour.
        share: The share of the colour words, 0 to 1.
        draw: A CPU generator.

    Returns:
        (N, L): `ids` with some of its colours changed.
    """
    drawn = torch.rand(ids.shape, generator=draw).to(ids.device) < share
    others = colours[torch.randint(len(colours), ids.shape, generator=draw).to(ids.device)]
    return torch.where(drawn & torch.isin(ids, colours), others, ids)


def seen_of(scene_text: str) -> str:
    """Remove the sentence of a paragraph that says where the edit was."""
    return re.sub(r" The eye is drawn to [^.]*\.", "", scene_text)


def names_edited(ids: Sequence[str], texts: Sequence[str]) -> float:
    """Return the share of texts that name the edited thing's colour and kind after the edit.

    Where the edit leaves nothing (Remove, Counting down), a text is right if it names the removed
    colour and kind exactly when another such thing is left.

    Args:
        ids: Ids of drawn scenes.
        texts: Descriptions of their targets.
    """
    right = []
    for name, text in zip(ids, texts, strict=True):
        edit = edit_of_sample(name)
        words = " ".join(re.findall("[a-z]+", text.lower()))
        left = {thing.look for thing in edit.target.things}
        if edit.after:
            look = edit.target.things[edit.after[0]].look
            right.append(_says(words, look))
        else:
            look = edit.source.things[edit.before[0]].look
            right.append(_says(words, look) == (look in left))
    return sum(right) / len(right)


def _says(words: str, look: tuple[str, str]) -> bool:
    colour, kind = look
    return re.search(rf"\b{colour} {kind}s?\b", words) is not None


def _caption_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> Tensor:
    ids = tokenizer(text).input_ids
    # given a maximum length, the tokenizer would remember it and save it
    ids = [*ids[:-1][: LONGEST - 1], ids[-1]]
    ids[0] = tokenizer.bos_token_id  # BLIP starts a caption with a token of its own
    return torch.tensor(ids)
