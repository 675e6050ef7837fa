"""Use the core from Python: score how well regions, in their context, match their texts."""

from __future__ import annotations

import sys

import torch

from ric.data.batches import to_square, to_unit
from ric.data.sample import load_samples
from ric.method.region_box import grow_box, tightest_box
from ric.method.region_encoder import RegionEncoder


def judge(data: str, region_clip: str, size: int = 64) -> list[tuple[str, float]]:
    """Return each sample's id and the cosine of its region with its own text.

    Args:
        data: A folder with metadata.jsonl; rows without region_text use their instruction.
        region_clip: A `ric fit-clip` run, or its `region_encoder` folder.
        size: The side in pixels of the squares that pictures are resized to.
    """
    encoder = RegionEncoder.from_pretrained(region_clip)
    scores = []
    for sample in load_samples(data):
        square = to_square(sample, size)
        box = grow_box(tightest_box(square.mask[0]), size, size)
        with torch.no_grad():
            f_r = encoder.encode_region(to_unit(square.target)[None], [box])
            e_tr = encoder.encode_text([sample.region_text or sample.instruction])
        scores.append((sample.id, torch.cosine_similarity(f_r, e_tr).item()))
    return scores


if __name__ == "__main__":
    for name, score in judge(*sys.argv[1:3]):
        print(f"{score:.3f}  {name}")
