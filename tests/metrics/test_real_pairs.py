"""Six real edits scored by `ric eval`, and by each library as its own users call it.

What was made of a photo is the edit, the photo itself is both source and reference.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cleanfid.features
import cleanfid.fid
import lpips
import numpy as np
import pytest
import torch
import torch_fidelity
import torchvision
from PIL import Image
from torch.nn.functional import cosine_similarity
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, ViTModel

from ric.config import EvalConfig, as_dict
from ric.metrics.inception import InceptionFeatures
from ric.metrics.inception_score import inception_score
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run

SHARED = Path(__file__).parents[3] / "shared" / "data" / "humanedit-six"
MIDDLE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """A data folder whose targets are its sources, and beside it what the editor made."""
    if not SHARED.is_dir():
        pytest.skip("../shared is absent")
    folder = tmp_path_factory.mktemp("pairs")
    for name in ("source", "edited", "mask"):
        (folder / name).mkdir()
    lines = []
    for line in (SHARED / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        made = f"{row['id']}.png"
        shutil.copy(SHARED / row["source_file_name"], folder / "source" / made)
        shutil.copy(SHARED / row["target_file_name"], folder / "edited" / made)
        both = dict.fromkeys(("source_file_name", "target_file_name"), f"source/{made}")
        with Image.open(folder / "source" / made) as source:
            mask = Image.new("L", source.size)
        mask.paste(255, (60, 40, 160, 200))
        mask.save(folder / "mask" / made)
        lines.append(json.dumps({**row, **both, "mask_file_name": f"mask/{made}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def weights(
    tmp_path_factory, inception_weights, alexnet_weights, squeezenet_weights, clip_folder,
    dino_folder,
) -> Path:  # fmt: skip
    """All of them in one folder, named as `--weights` looks for them."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(inception_weights, folder / "weights-inception-2015-12-05-6726825d.pth")
    shutil.copy(alexnet_weights, folder / "alexnet-owt-7be5be79.pth")
    shutil.copy(squeezenet_weights, folder / "squeezenet1_1-b8a52dc0.pth")
    shutil.copytree(clip_folder, folder / "openai--clip-vit-base-patch32")
    shutil.copytree(dino_folder, folder / "facebook--dino-vits16")
    return folder


@pytest.fixture(scope="module")
def ours(pairs, weights, tmp_path_factory):
    """Score them once by `ric eval --fid clean`; return the editor's row."""
    config = EvalConfig(
        data=str(pairs), edits=(f"Mine={pairs / 'edited'}",), split="all", reference="source",
        weights=str(weights), device="cpu",
    )  # fmt: skip
    runs = tmp_path_factory.mktemp("runs")
    with open_run("eval", as_dict(config), runs_dir=runs, run=runs / "run") as run:
        return evaluate(config, run)[0]


def read(pairs: Path, which: str) -> list[Image.Image]:
    return [Image.open(file).convert("RGB") for file in sorted((pairs / which).iterdir())]


@pytest.fixture(scope="module")
def both(pairs) -> tuple[list[Image.Image], list[Image.Image]]:
    return read(pairs, "edited"), read(pairs, "source")


def test_all_are_scored_and_none_by_a_stand_in(ours):
    six = [ours[key] for key in ("clip_i", "dino", "clip_t", "lpips", "fid", "is")]
    assert [score.n for score in six] == [6] * 6
    # weights of these names, and not the published bytes
    assert all(re.fullmatch("weights [0-9a-f]{8}", score.marker) for score in six)


@torch.no_grad()
def test_clip_i_and_clip_t_are_the_models_called_by_hand(ours, both, pairs, clip_folder):
    model = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(clip_folder)
    edited, source = (
        model.get_image_features(**processor(side, return_tensors="pt")).pooler_output
        for side in both
    )
    assert ours["clip_i"].value == pytest.approx(
        cosine_similarity(edited, source).mean().item(), abs=1e-5
    )
    rows = [json.loads(line) for line in (pairs / "metadata.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    texts = [row["region_text"] for row in sorted(rows, key=lambda row: row["id"])]
    features = torch.cat(
        [
            model.get_text_features(
                **tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
            ).pooler_output
            for text in texts
        ]
    )
    assert ours["clip_t"].value == pytest.approx(
        cosine_similarity(edited, features).mean().item(), abs=1e-5
    )


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:Argument 'interpolation'")
def test_dino_is_the_model_called_by_hand(ours, both, dino_folder):
    # torch.hub's dino_vits16 as MagicBrush feeds it
    resize = Resize(256, interpolation=Image.Resampling.BICUBIC)
    fed = Compose([resize, CenterCrop(224), ToTensor(), Normalize(*MIDDLE)])
    model = ViTModel.from_pretrained(dino_folder, dtype=torch.float32, add_pooling_layer=False)
    edited, source = (
        model.eval()(torch.stack([fed(image) for image in side])).last_hidden_state[:, 0]
        for side in both
    )
    assert ours["dino"].value == pytest.approx(
        cosine_similarity(edited, source).mean().item(), abs=1e-5
    )


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*weight:UserWarning")
def test_lpips_is_the_packages(ours, both, alexnet_weights, monkeypatch):
    state = torch.load(alexnet_weights, weights_only=True)
    downloads = torchvision.models._api.WeightsEnum
    monkeypatch.setattr(downloads, "get_state_dict", lambda *_, **__: state)
    library = lpips.LPIPS(net="alex", verbose=False)
    fed = [torch.stack([ToTensor()(image) for image in side]) * 2 - 1 for side in both]
    assert ours["lpips"].value == pytest.approx(library(*fed).mean().item(), abs=1e-6)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*weight:UserWarning")
def test_outside_the_mask_lpips_is_the_package_s_squeezenet(
    ours, both, squeezenet_weights, monkeypatch
):
    state = torch.load(squeezenet_weights, weights_only=True)
    downloads = torchvision.models._api.WeightsEnum
    monkeypatch.setattr(downloads, "get_state_dict", lambda *_, **__: state)
    library = lpips.LPIPS(net="squeeze", verbose=False)
    fed = [torch.stack([ToTensor()(image) for image in side]) for side in both]
    for side in fed:
        side[:, :, 40:200, 60:160] = 0
    expected = library(*(side * 2 - 1 for side in fed)).mean().item()
    assert ours["lpips_outside"].value == pytest.approx(expected, abs=1e-6)


def test_l1_and_l2_are_magicbrushs(ours, both):
    edited, source = (torch.stack([ToTensor()(image) for image in side]) for side in both)
    assert ours["l1"].value == pytest.approx((edited - source).abs().mean().item(), rel=1e-5)
    assert ours["l2"].value == pytest.approx((edited - source).square().mean().item(), rel=1e-5)


@pytest.mark.slow  # two roots of general matrices of 2048 x 2048
def test_fid_kid_and_is_are_the_libraries_run_on_the_two_folders(
    ours, both, pairs, inception_weights
):
    inception = InceptionFeatures(inception_weights, kind="torch-fidelity")
    settings = {
        "input1": str(pairs / "edited"),
        "input2": str(pairs / "source"),
        "feature_extractor_weights_path": str(inception_weights),
        "isc_splits": 2,  # with its 10, six pictures would give NaN
        "kid_subset_size": 6,
        "kid_subsets": 1,
        "cuda": False,
        "cache": False,
        "save_cpu_ram": True,
        "verbose": False,
    }
    library = torch_fidelity.calculate_metrics(fid=True, isc=True, kid=True, **settings)
    edited, source = (inception.set_features(side) for side in both)
    by_hand = cleanfid.fid.fid_from_feats(edited.features.numpy(), source.features.numpy())
    assert by_hand == pytest.approx(library["frechet_inception_distance"], rel=1e-5)
    splits = inception_score(edited.logits, splits=2)
    assert splits.mean == pytest.approx(library["inception_score_mean"], rel=1e-5)

    # clean-fid's own reading, through the same layers
    layers = lambda pixels: inception.activations((pixels - 128) / 128)  # noqa: E731
    clean = [
        cleanfid.fid.get_folder_features(
            str(pairs / side), layers, mode="clean", num_workers=0, batch_size=6,
            device=torch.device("cpu"), verbose=False,
        )
        for side in ("edited", "source")
    ]  # fmt: skip
    assert ours["fid"].value == pytest.approx(cleanfid.fid.fid_from_feats(*clean), rel=1e-5)
    kid = cleanfid.fid.kernel_distance(*(np.float64(side) for side in clean), num_subsets=1)
    assert ours["kid"].value == pytest.approx(kid, rel=1e-4)
    assert ours["fid"].value > 1
