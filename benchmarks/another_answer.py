"""What a perfect editor would score: another right answer to each instruction, drawn and encoded.

    python benchmarks/another_answer.py [--data scenes:4000@64#3] [--limit N] [--runs DIR]

"Put a red ball to the left of the boat" has many right answers, and a scene's target is one of
them. Here each test edit is answered again: what is added or moved stands in another spot that the
generator could have drawn, and what goes from a group is another of its like; an edit with a single
answer keeps its target. `ric eval` scores these answers as it scores an editor's, once as they are
drawn and once after the round trip through the embedded autoencoder, beside the targets' own round
trip. No editor that draws its answer can be expected to score better than the first, nor the
embedded one better than the second. The result is appended to
benchmarks/results/another-answer-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from _results import append_result, measured_here
from PIL import Image

from ric.data.drawn_scenes import edit_of_sample, parse_scenes
from ric.device import pick_device
from ric.models.pipeline import load_pipeline
from ric.scenes.draws import Draws
from ric.scenes.edits import place_related
from ric.scenes.layout import apart, well_seen
from ric.scenes.render import render_pair
from ric.scenes.shapes import YAWS
from ric.weights.tiny_family import tiny_family

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from ric.scenes.edit import Edit
    from ric.scenes.scene import Scene
    from ric.scenes.things import Thing

TRIES = 200


def answer_again(edit: Edit, draws: Draws) -> Scene | None:
    """Draw another right answer; None if the edit has but one, or no other was found."""
    if edit.type == "Counting" and edit.before:
        return _without_others(edit, draws)
    for _ in range(TRIES if edit.type in ("Add", "Counting", "Relation") else 0):
        found = _placed_elsewhere(edit, draws)
        if found and well_seen(found.things, edit.after):
            return found
    return None


def _without_others(edit: Edit, draws: Draws) -> Scene:
    """Take as many of a group away as the edit does, whichever they are."""
    source = edit.source
    look = source.things[edit.before[0]].look
    group = [number for number, thing in enumerate(source.things) if thing.look == look]
    gone = draws.shuffled(group)[: len(edit.before)]
    return source.having(tuple(one for n, one in enumerate(source.things) if n not in gone))


def _placed_elsewhere(edit: Edit, draws: Draws) -> Scene | None:
    """Place what is added or moved again, one thing after another."""
    numbers = edit.after
    others = tuple(one for n, one in enumerate(edit.target.things) if n not in numbers)
    anchor = None
    if edit.anchor is not None:
        anchor = others.index(edit.target.things[edit.anchor])
    scene = edit.target.having(others)
    for number in numbers:
        placed = place_related(
            draws, _turned(edit, number, draws), scene, scene.things, (edit.relation, anchor)
        )
        if placed is None:
            return None
        if edit.type == "Relation" and not apart(placed, [edit.source.things[number]]):
            return None
        scene = scene.having((*scene.things, placed))
    # the moved thing keeps its number, as in the edit's own target
    return scene.having((scene.things[-1], *others)) if edit.type == "Relation" else scene


def _turned(edit: Edit, number: int, draws: Draws) -> Thing:
    """Turn a new thing as the generator might have; one that is moved keeps its turn."""
    thing = edit.target.things[number]
    if edit.type == "Relation":
        return thing
    return replace(thing, turn=(thing.turn + 2 * draws.integer(len(YAWS) // 2)) % len(YAWS))


def draw_answers(asked: argparse.Namespace, folder: Path) -> dict[str, int]:
    """Write three folders of pictures; count the edits by how often another answer was found."""
    stream = parse_scenes(asked.data)
    vae = load_pipeline(tiny_family() / "pipeline", pick_device("cpu")).vae
    names = (folder / "another", folder / "another-by-vae", folder / "target-by-vae")
    for name in names:
        name.mkdir(parents=True, exist_ok=True)
    counts = {"edits": 0, "answered otherwise": 0}
    for sample in islice(stream.ids_of_split("test"), asked.limit):
        edit = edit_of_sample(sample)
        found = answer_again(edit, Draws("another answer", sample))
        target = render_pair(edit.source, edit.target, stream.size).target
        picture = render_pair(edit.source, found, stream.size).target if found else target
        counts["edits"] += 1
        counts["answered otherwise"] += found is not None
        pictures = (picture, *_round_trip(vae, (picture, target)))
        for name, pixels in zip(names, pictures, strict=True):
            Image.fromarray(pixels).save(name / f"{sample}.png")
    return counts


@torch.no_grad()
def _round_trip(vae: torch.nn.Module, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Encode and decode pictures (H, W, 3), each by the mode of its latents."""
    pixels = torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2).float() / 127.5 - 1
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
    levels = ((decoded + 1) * 127.5).round().clamp(0, 255).byte()
    return levels.permute(0, 2, 3, 1).numpy()


def figures_of(scored: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Return each arm's value, lower and upper bound by metric."""
    return {
        editor["label"]: {
            name: [score["value"], *(score[end] for end in ("low", "high") if end in score)]
            for name, score in editor["scores"].items()
        }
        for editor in scored["editors"]
    }


def main() -> None:
    """Draw the answers, score them, append the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="scenes:4000@64#3")
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--runs", type=Path, default=Path("another-answer"))
    asked = parser.parse_args()
    counts = draw_answers(asked, asked.runs)
    print(counts)
    arms = ("another", "another-by-vae", "target-by-vae")
    command = ("eval", *(f"{arm}={asked.runs / arm}" for arm in arms), "--data", asked.data,
               "--preset", "tiny", "--limit", str(asked.limit), "--group-by", "editing-type",
               "--run", str(asked.runs / "scores"))  # fmt: skip
    subprocess.run([sys.executable, "-m", "ric_cli", *command], check=True)
    scores = json.loads((asked.runs / "scores" / "scores.json").read_text())
    by_type = {kind: figures_of(scored) for kind, scored in scores["groups"].items()}
    result = measured_here(data=asked.data, **counts, scores=figures_of(scores), by_type=by_type)
    file = append_result("another-answer", result)
    print(file)


if __name__ == "__main__":
    main()
