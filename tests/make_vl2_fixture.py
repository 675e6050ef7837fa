"""Run the released code of DeepSeek-VL2 on a small model, and write what it gives.

    python tests/make_vl2_fixture.py OFFICIAL

OFFICIAL holds the folder `deepseek_vl2` of github.com/deepseek-ai/DeepSeek-VL2 at `COMMIT`. It runs
on transformers 4.38 and no later: an environment of its own, with Python 3.11, torch,
transformers==4.38.2, timm, einops, attrdict and sentencepiece. xformers has no kernel for a CPU;
PyTorch's attention stands in for its one function that is called. Writes
tests/fixtures/deepseek-vl2/outputs.safetensors and layout.json.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import types
import zlib
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from small_vl2 import PROCESSOR, QUESTION, SIZES, picture, resolutions, sizes, write_model

COMMIT = "ef9f91e2b6426536b83294c11742c27be66361b1"
# SHA-256 of the files in the folder deepseek_vl2
FILES = """\
3790984df4c51224d3ee6acdaeb1934b2bc339590654ede913f7d69bcba0700c __init__.py
723ec957c0e5e9c679b9530b3dd759050f7af169645397f615773f091d4b5787 models/__init__.py
6ab21f29a4722e26fa28c8e0d4277591689a598df17cf6c712330e8f62b3fc7c models/configuration_deepseek.py
b46bfcc1715d4c62bb7b062a2cc8bc850f2daaa7c2d5da4b6bfe8d16e851b3b1 models/conversation.py
9c7309b9ba7e8c2548ec9e11d6f8fc23256103ed0b58925ea9429e014995578f models/modeling_deepseek.py
ffb3d419ef869e77587402a890807efd8c4c719a773e630b0234fe662e2d9610 models/modeling_deepseek_vl_v2.py
b575ec3dbc83fcc989f753722d63180efd577fe781b7b5f492da310d5548927b models/processing_deepseek_vl_v2.py
4512ee84bb47d0648e3cefd126dc46f5d0bd038729e478e2331184b5de64e537 models/siglip_vit.py
"""
OUT = Path(__file__).parent / "fixtures" / "deepseek-vl2"
NEW_TOKENS, LAST_LOGITS = 20, 12


def import_official(folder: Path) -> tuple[Any, Any]:
    """Import the released classes after a check of their files."""
    for digest, name in map(str.split, FILES.splitlines()):
        if hashlib.sha256((folder / "deepseek_vl2" / name).read_bytes()).hexdigest() != digest:
            sys.exit(f"{folder / 'deepseek_vl2' / name} is not that of {COMMIT}.")

    def attention(query: Any, key: Any, value: Any, p: float = 0.0) -> torch.Tensor:
        swapped = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(*swapped).transpose(1, 2)

    sys.modules["xformers"] = types.ModuleType("xformers")
    sys.modules["xformers.ops"] = types.SimpleNamespace(memory_efficient_attention=attention)
    sys.path.insert(0, str(folder))
    import deepseek_vl2  # patches what attrdict imports  # noqa: F401
    from deepseek_vl2.models import DeepseekVLV2ForCausalLM, DeepseekVLV2Processor

    return DeepseekVLV2ForCausalLM, DeepseekVLV2Processor


def ask(processor: Any, image: Image.Image) -> Any:
    """Prepare the question about a picture, as the released inference.py does."""
    content = f"<image>\n{QUESTION}"
    conversation = [
        {"role": "<|User|>", "content": content},
        {"role": "<|Assistant|>", "content": ""},
    ]
    return processor.process_one(conversations=conversation, images=[image])


@torch.no_grad()
def run(model: Any, processor: Any, asked: list[Any]) -> dict[str, torch.Tensor]:
    """Return all that is compared, for one picture or a batch."""
    batch = processor.batchify(asked)
    given = {
        "input_ids": batch.input_ids,
        "images": batch.images,
        "images_seq_mask": batch.images_seq_mask.bool(),  # today's torch scatters by nothing else
        "images_spatial_crop": batch.images_spatial_crop,
    }
    embeds = model.prepare_inputs_embeds(**given)
    mask = batch.attention_mask
    # as generation numbers them
    positions = (mask.long().cumsum(-1) - 1).masked_fill(~mask, 1)
    outputs = model.language(
        inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
    )
    tokens = model.language.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        pad_token_id=processor.tokenizer.pad_token_id,
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.tokenizer.eos_token_id,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_cache=True,
    )
    views = torch.cat([one.images for one in asked])
    return {
        "input_ids": batch.input_ids.int(),
        "features": model.projector(model.vision(views)),
        "embeds": embeds,
        "logits": outputs.logits[:, -LAST_LOGITS:],
        "tokens": tokens.int(),
    }


def layout(processor: Any) -> dict[str, Any]:
    """Return the grid and number of tokens for 200 sizes, and the pixels' checksums for 40."""
    grids = []
    settings = {**PROCESSOR, "candidate_resolutions": resolutions(384)}
    del settings["processor_class"]
    full = type(processor)(processor.tokenizer, **settings)
    for width, height in sizes(200, 4608):
        asked = ask(full, Image.new("RGB", (width, height)))
        grids.append([width, height, *asked.images_spatial_crop[0].tolist(), len(asked.input_ids)])
    pixels = []
    for width, height in sizes(40, 504):
        asked = ask(processor, picture(width, height))
        values = (asked.images * 127.5 + 127.5).round().to(torch.uint8)
        pixels.append([width, height, zlib.crc32(values.numpy().tobytes())])
    return {"grids": grids, "pixels": pixels}


def main() -> None:
    """Write both files."""
    model_class, processor_class = import_official(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as place:
        folder = write_model(Path(place))
        processor = processor_class.from_pretrained(folder)
        model, report = model_class.from_pretrained(
            folder, torch_dtype=torch.float32, output_loading_info=True
        )
    assert not report["missing_keys"], report
    assert not report["unexpected_keys"], report
    asked = {name: ask(processor, picture(*size)) for name, size in SIZES.items()}
    given = {name: [one] for name, one in asked.items()} | {"batch": list(asked.values())}
    outputs = {}
    for name, questions in given.items():
        for what, tensor in run(model.eval(), processor, questions).items():
            if name != "batch" or what in ("input_ids", "logits", "tokens"):
                outputs[f"{name}.{what}"] = tensor.contiguous()
    OUT.mkdir(parents=True, exist_ok=True)
    about = {"commit": COMMIT, "torch": torch.__version__, "transformers": "4.38.2"}
    save_file(outputs, OUT / "outputs.safetensors", metadata=about)
    (OUT / "layout.json").write_text(json.dumps(layout(processor)) + "\n")


if __name__ == "__main__":
    main()
