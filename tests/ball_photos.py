"""Edits of real photographs whose right answer is known: a data set for tests.

The photographs are those that scikit-image carries. Each becomes several samples: a shaded ball
with its shadow is added, removed, or painted another colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

PHOTOS = {
    "astronaut": "an astronaut in an orange suit before a flag",
    "chelsea": "a tabby cat lying on a blanket",
    "coffee": "a cup of coffee on a saucer on a wooden table",
    "rocket": "a rocket on its launch pad under a clear sky",
}
COLOURS = {"red": (200, 30, 30), "green": (30, 150, 50), "blue": (40, 70, 210)}
SPLITS = ("train", "train", "train", "val", "train", "test")
SIZE = 128  # pixels


def ball_rows(folder: Path) -> Iterator[dict[str, str]]:
    """Draw the samples into `folder` and yield their metadata rows: 24, a quarter a photo."""
    from skimage import data as photographs

    for photo, (name, words) in enumerate(PHOTOS.items()):
        whole = Image.fromarray(getattr(photographs, name)()).convert("RGB")
        for number, split in enumerate(SPLITS):
            rng = np.random.default_rng([photo, number])
            plain = _crop(whole, rng)
            centre, radius = rng.uniform(0.3, 0.7, 2) * SIZE, rng.uniform(0.12, 0.2) * SIZE
            first, second = rng.permutation(list(COLOURS))[:2]
            with_first = draw_ball(plain, centre, radius, COLOURS[first])
            side = "left" if centre[0] < SIZE / 2 else "right"
            kind, source, target, instruction, region, scene = {
                0: ("Add", plain, with_first, f"Add a {first} ball on the {side}.",
                    f"a {first} ball on the {side}", f"A {first} ball lies on the {side}."),
                1: ("Remove", with_first, plain, f"Remove the {first} ball.",
                    f"{words}, without a ball", "There is no ball."),
                2: ("Replace", with_first, draw_ball(plain, centre, radius, COLOURS[second]),
                    f"Turn the {first} ball into a {second} one.",
                    f"a {second} ball on the {side}", f"A {second} ball lies on the {side}."),
            }[(photo + number) % 3]  # fmt: skip
            sample = f"{name}-{number}"
            mask = Image.new("L", (SIZE, SIZE), 0)
            ImageDraw.Draw(mask).ellipse(_ball_box(centre, radius), fill=255)
            files = {}
            for column, picture in (("source", source), ("target", target), ("mask", mask)):
                files[f"{column}_file_name"] = f"{column}/{sample}.png"
                (folder / column).mkdir(parents=True, exist_ok=True)
                picture.save(folder / files[f"{column}_file_name"])
            yield {
                "id": sample,
                **files,
                "instruction": instruction,
                "region_text": region,
                "scene_text": f"The picture shows {words}. {scene}",
                "editing_type": kind,
                "split": split,
            }


def _crop(whole: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = int(min(whole.size) * rng.uniform(0.5, 0.8))
    left = int(rng.integers(whole.width - side + 1))
    top = int(rng.integers(whole.height - side + 1))
    return whole.crop((left, top, left + side, top + side)).resize((SIZE, SIZE))


def _ball_box(centre: NDArray[np.float64], radius: float) -> tuple[float, float, float, float]:
    x, y = centre
    return x - radius, y - radius, x + radius, y + radius


def draw_ball(
    picture: Image.Image, centre: NDArray[np.float64], radius: float, colour: tuple[int, int, int]
) -> Image.Image:
    """Draw a ball lit from the upper left, with a soft shadow to its lower right."""
    y, x = np.mgrid[0 : picture.height, 0 : picture.width]
    pixels = np.asarray(picture, dtype=np.float64)
    across, down = (x - centre[0]) / radius, (y - centre[1]) / radius
    shadow = np.clip(1.3 - np.hypot((across - 0.5) / 1.4, (down - 1.0) / 0.5), 0, 1)
    pixels = pixels * (1 - 0.5 * shadow[..., None])
    height = np.sqrt(np.clip(1 - across**2 - down**2, 0, None))
    light = np.clip(0.35 + 0.75 * (-0.5 * across - 0.6 * down + 0.6 * height), 0.15, 1.3)
    ball = np.asarray(colour) * light[..., None]
    edge = np.clip((1 - np.hypot(across, down)) * radius, 0, 1)[..., None]
    mixed = pixels * (1 - edge) + ball * edge
    return Image.fromarray(np.clip(mixed, 0, 255).round().astype(np.uint8))
