"""Small data sets on disk, made on the spot."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Picture = Callable[..., Image.Image]


@pytest.fixture
def noise() -> Picture:
    """A seeded picture of random colours: no two pixels alike, so geometry shows."""

    def make(width: int = 16, height: int = 12, seed: int = 0, mode: str = "RGB") -> Image.Image:
        values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(values).convert(mode)

    return make


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """A picture as a file's bytes."""

    def encode(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
        stream = io.BytesIO()
        image.save(stream, form, **options)
        return stream.getvalue()

    return encode


@pytest.fixture
def edits(tmp_path: Path, noise: Picture) -> Callable[..., Path]:
    """A folder of edits; each row given is laid over a complete one."""

    def make(*rows: dict, name: str = "edits") -> Path:
        folder = tmp_path / name
        for kind in ("source", "target", "mask"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        lines = []
        for number, row in enumerate(rows):
            noise(seed=number).save(folder / f"source/{number}.png")
            noise(seed=number + 100).save(folder / f"target/{number}.png")
            mask = np.zeros((12, 16), np.uint8)
            mask[2:6, 3:9] = 255
            Image.fromarray(mask).save(folder / f"mask/{number}.png")
            full = {
                "id": f"{number:04d}",
                "source_file_name": f"source/{number}.png",
                "target_file_name": f"target/{number}.png",
                "mask_file_name": f"mask/{number}.png",
                "instruction": "make it red",
                **row,
            }
            lines.append(json.dumps({k: v for k, v in full.items() if v is not ...}))
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return make
