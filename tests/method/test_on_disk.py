"""Both judges as another process reads them: no bit differs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BOXES = [(0, 0, 20, 30), (31, 8, 64, 64)]
TEXTS = ["a red ball on the grass", "two dogs near a house"]
READ_AGAIN = """
import sys
sys.path.append(sys.argv[1])
from safetensors.torch import load_file, save_file
from test_on_disk import embeddings
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
judges = RegionEncoder.from_pretrained(sys.argv[2]), SceneEncoder.from_pretrained(sys.argv[3])
save_file(embeddings(*judges, load_file(sys.argv[4])), sys.argv[5])
"""


@torch.no_grad()
def embeddings(region, scene, images) -> dict[str, torch.Tensor]:
    """Give what both judges make of pictures and texts, and their temperatures."""
    return {
        "f_r": region.encode_region(images["regions"], BOXES),
        "e_tr": region.encode_text(TEXTS),
        "tau of regions": region.temperature[None].clone(),
        "e_f": scene.encode_image(images["scenes"]),
        "e_tf": scene.encode_text(TEXTS),
        "tau of scenes": scene.temperature[None].clone(),
    }


def test_a_fresh_process_reads_the_same_judges_bit_by_bit(
    region_encoder, scene_encoder, draw, tmp_path
):
    with torch.no_grad():
        for parameter in (*region_encoder.parameters(), *scene_encoder.parameters()):
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    sizes = {"regions": 64, "scenes": 96}
    images = {of: torch.rand(2, 3, n, n, generator=draw) * 2 - 1 for of, n in sizes.items()}
    save_file(images, tmp_path / "images.safetensors")
    expected = embeddings(region_encoder, scene_encoder, images)
    # safetensors refuses this layout unless it is undone
    region_encoder.to(memory_format=torch.channels_last)
    runs = tmp_path / "00002-fit-clip", tmp_path / "00003-fit-blip"
    region_encoder.save_pretrained(runs[0] / "region_encoder")
    scene_encoder.save_pretrained(runs[1] / "scene_encoder")
    words = [Path(__file__).parent, *runs, tmp_path / "images.safetensors", tmp_path / "out"]
    subprocess.run([sys.executable, "-c", READ_AGAIN, *map(str, words)], check=True)
    found = load_file(tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    # the matching head is left as it was
    saved = load_file(runs[1] / "scene_encoder" / "blip" / "model.safetensors")
    assert torch.equal(saved["itm_head.weight"], scene_encoder.tower.itm_head.weight)
