"""`ric tiny classifier`: a network that classifies the content of drawn scenes.

It reads whole pictures (place, light, number of things) and crops of one thing (kind, colour,
material, state, or nothing there). Its features stand in for Inception's, LPIPS' and DINO's under
`--preset tiny`; its reading of a crop decides whether an edit succeeded. Half of its training
pictures are softened, since the output of an editor's autoencoder is soft too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy, interpolate
from transformers import ResNetForImageClassification

from ric.data.batches import to_unit
from ric.data.drawn_scenes import edit_of_sample
from ric.device import draw_generator, pick_device
from ric.metrics.edit_success import crop_of_thing, overlap
from ric.metrics.scene_labels import GROUPS, NOTHING, group_ranges
from ric.models.locate import locate
from ric.progress import Progress, Silent
from ric.recipes.tiny.pictures import load_drawn
from ric.recipes.tiny.steps import Lesson, batch_of_step, train_steps
from ric.runs.artifacts import artifact_folder
from ric.scenes.layout import Outline, outline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from ric.config import TinyClassifierConfig
    from ric.recipes.tiny.pictures import DrawnSample
    from ric.runs.run import RunDir
    from ric.scenes.scene import Scene
    from ric.scenes.things import Thing

JITTER = 0.12  # of a box's sides: how far training moves them at most
SOFTEST = 0.35  # of a picture's side: how far training shrinks it at most before enlarging it
NOT_ASKED = -100  # cross entropy's ignore_index


class Labelled(NamedTuple):
    """A picture and its labels by group; groups without a label do not count."""

    picture: Tensor  # uint8 (3, S, S)
    labels: dict[str, str]


def train_classifier(
    config: TinyClassifierConfig, run: RunDir, progress: Progress | None = None
) -> Path:
    """Train the classifier on DATA; return the run's folder `scene_classifier`.

    Raises:
        RicError: there is no usable sample, or the loss was not finite ten times in a row.
        Interrupted: a stop was requested; the run resumes from its checkpoint.
    """
    progress = progress or Silent()
    device = pick_device(config.device)
    base = locate(config, "base", run)
    model = ResNetForImageClassification.from_pretrained(base, dtype=torch.float32).to(device)
    model.to(memory_format=torch.channels_last)
    trained, held_out = load_drawn(config, run, progress)
    with progress.stage("cropping", total=len(trained), unit="samples") as stage:
        items: list[Labelled] = []
        for sample in trained:
            items += labelled(sample, config.seed)
            stage.advance()
    known = [item for sample in held_out for item in labelled(sample, config.seed)]
    ranges = group_ranges()

    def loss_of(step: int) -> dict[str, Tensor]:
        batch = [items[index] for index in batch_of_step(len(items), config, step)]
        pictures = to_unit(torch.stack([item.picture for item in batch]).to(device))
        logits = model(softened(pictures, draw_generator(config.seed, "softened", step))).logits
        losses = {}
        for group, place in ranges.items():
            wanted = torch.tensor([_number(group, item) for item in batch], device=device)
            asked = (wanted != NOT_ASKED).sum().clamp(min=1)
            summed = cross_entropy(
                logits[:, place].float(), wanted, ignore_index=NOT_ASKED, reduction="sum"
            )
            losses[group] = summed / asked
        return {"loss": torch.stack(list(losses.values())).sum()}

    def measure() -> dict[str, float]:
        logits = torch.cat(
            [
                model(to_unit(torch.stack([item.picture for item in some])).to(device)).logits
                for some in (known[start : start + 64] for start in range(0, len(known), 64))
            ]
        ).cpu()
        return {f"val_{key}": value for key, value in accuracies(logits, known).items()}

    train_steps(Lesson({"classifier": model}, loss_of, measure), config, run, progress)
    with artifact_folder(run, "scene_classifier") as folder:
        model.save_pretrained(folder)
    return run.path / "scene_classifier"


def softened(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Soften a random half of the pictures (B, 3, S, S), all to the same degree."""
    side = pictures.shape[-1]
    share = SOFTEST + (1 - SOFTEST) * torch.rand((), generator=generator).item()
    chosen = (torch.rand(len(pictures), generator=generator) < 0.5).to(pictures.device)
    small = interpolate(pictures, size=round(share * side), mode="bilinear", antialias=True)
    soft = interpolate(small, size=side, mode="bilinear")
    return torch.where(chosen[:, None, None, None], soft, pictures)


def accuracies(logits: Tensor, known: Sequence[Labelled]) -> dict[str, float]:
    """Return the accuracy of each group, over the pictures with a label in it."""
    shares = {}
    for group, place in group_ranges().items():
        wanted = torch.tensor([_number(group, item) for item in known])
        asked = wanted != NOT_ASKED
        right = (logits[:, place].argmax(dim=1) == wanted)[asked]
        shares[group.replace(" ", "_")] = right.float().mean().item()
    return shares


def labelled(sample: DrawnSample, seed: int) -> Iterator[Labelled]:
    """Yield one of a sample's pictures as a whole, at random, and crops of what changes in both."""
    edit = edit_of_sample(sample.id)
    generator = draw_generator(seed, "crops", sample.id)
    pictures = {"source": sample.source, "target": sample.target}
    scenes = {"source": edit.source, "target": edit.target}
    whole = "source" if torch.rand((), generator=generator) < 0.5 else "target"
    yield Labelled(pictures[whole], _of_whole(scenes[whole]))
    changed = {"source": edit.before, "target": edit.after}
    for name, other in (("source", "target"), ("target", "source")):
        image = Image.fromarray(pictures[name].permute(1, 2, 0).numpy())
        boxes = [outline(thing) for thing in scenes[name].things]
        for number in changed[name]:
            box = _jittered(boxes[number], generator)
            yield Labelled(_pixels(crop_of_thing(image, box)), _of(scenes[name].things[number]))
        for number in changed[other]:
            box = outline(scenes[other].things[number])
            if all(overlap(box, there) < 0.1 for there in boxes):
                crop = crop_of_thing(image, _jittered(box, generator))
                yield Labelled(_pixels(crop), {"kind": NOTHING})


def _of_whole(scene: Scene) -> dict[str, str]:
    return {
        "place": scene.place,
        "light from": scene.light.side,
        "light": scene.light.height,
        "things": str(min(len(scene.things), len(GROUPS["things"]) - 1)),
    }


def _of(thing: Thing) -> dict[str, str]:
    labels = {"kind": thing.kind, "colour": thing.colour, "material": thing.material}
    return labels | ({"state": thing.state} if thing.state else {})


def _number(group: str, item: Labelled) -> int:
    label = item.labels.get(group)
    return NOT_ASKED if label is None else GROUPS[group].index(label)


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _jittered(box: Outline, generator: torch.Generator) -> Outline:
    moves = ((torch.rand(4, generator=generator) * 2 - 1) * JITTER).tolist()
    wide, high = box[2] - box[0], box[3] - box[1]
    return (
        box[0] + moves[0] * wide,
        box[1] + moves[1] * high,
        box[2] + moves[2] * wide,
        box[3] + moves[3] * high,
    )
