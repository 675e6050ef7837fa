"""PIE-Bench's scores against the formulas of its scripts, written out with torchmetrics."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity, mse_loss
from torchmetrics.functional.image import (
    learned_perceptual_image_patch_similarity,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchvision.transforms import Normalize, Resize
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel, ViTConfig, ViTModel

from ric.errors import SampleError
from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.lpips_distance import LpipsDistance
from ric.metrics.networks import Unavailable
from ric.metrics.pairs import Pair
from ric.metrics.structure_distance import StructureDistance
from ric.scoring.pie_bench import PieBenchNetworks, PieBenchSuite, last_panel, with_borders
from ric.scoring.scores import PIE_BENCH
from ric.scoring.suite import Scored

SIDE = 96  # pixels


@pytest.fixture(scope="module")
def vit(tmp_path_factory) -> Path:
    """A small ViT that reads pictures as dino-vitb8 does: 224 pixels, patches of 8."""
    path = tmp_path_factory.mktemp("dino-vitb8")
    config = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=224, patch_size=8, initializer_range=0.2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def clip(clip_folder, tmp_path_factory) -> Path:
    """The small CLIP turned about, so that its cosines of pictures and texts are above 0."""
    path = tmp_path_factory.mktemp("clip") / "turned"
    shutil.copytree(clip_folder, path)
    tensors = load_file(path / "model.safetensors")
    tensors["visual_projection.weight"] *= -1
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture(scope="module")
def networks(clip, squeezenet_weights, vit) -> PieBenchNetworks:
    return PieBenchNetworks(
        clip=ClipSimilarity(clip),
        lpips=LpipsDistance("squeeze", squeezenet_weights, published="squeeze"),
        structure=StructureDistance(vit),
    )


@pytest.fixture(scope="module")
def pairs(draw) -> list[Pair]:
    made = []
    for index in range(3):
        mask = Image.new("L", (SIDE, SIDE))
        mask.paste(255, (10, 20, 50 + 10 * index, 70))
        made.append(
            Pair(
                id=str(index),
                edited=draw(index, SIDE, SIDE),
                source=draw(100 + index, SIDE, SIDE),
                text=f"a [red] ball number {index}",
                source_text="the grass near a [house]",
                mask=mask,
            )
        )
    return made


def score(networks: PieBenchNetworks, pairs: list[Pair]) -> Scored:
    suite = PieBenchSuite(networks)
    for pair in pairs:
        suite.add([pair])
    return suite.finish()


@pytest.fixture(scope="module")
def scored(networks, pairs) -> Scored:
    return score(networks, pairs)


def unedited(pair: Pair, image: Image.Image) -> torch.Tensor:
    """The picture times 1 - mask, whose borders are 1, as (1, 3, H, W) in [0, 1]."""
    mask = np.array(pair.mask).astype(np.float32) / 255
    mask[0, :] = mask[-1, :] = mask[:, 0] = mask[:, -1] = 1
    pixels = np.array(image).astype(np.float32) / 255 * (1 - mask)[..., None]
    return torch.tensor(pixels).permute(2, 0, 1)[None]


@pytest.mark.filterwarnings("ignore:.*weight:UserWarning")
def test_the_unedited_part_is_torchmetrics_on_blacked_pictures(
    scored, pairs, squeezenet_weights, monkeypatch
):
    state = torch.load(squeezenet_weights, weights_only=True)
    downloads = torchvision.models._api.WeightsEnum
    monkeypatch.setattr(downloads, "get_state_dict", lambda *_, **__: state)
    for pair, row in zip(pairs, scored.rows, strict=True):
        ours, theirs = (unedited(pair, image) for image in (pair.edited, pair.source))
        lpips = learned_perceptual_image_patch_similarity(
            ours * 2 - 1, theirs * 2 - 1, net_type="squeeze"
        )
        by_hand = {
            "psnr_unedited": peak_signal_noise_ratio(ours, theirs, data_range=1.0),
            "mse_unedited": mse_loss(ours, theirs),
            "ssim_unedited": structural_similarity_index_measure(ours, theirs, data_range=1.0),
            "lpips_unedited": lpips,
        }
        for key, value in by_hand.items():
            assert row[key] == pytest.approx(value.item(), rel=1e-4, abs=1e-6), key


@torch.no_grad()
def clip_score(folder: Path, pixels: np.ndarray, text: str) -> float:
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    fed = CLIPImageProcessorPil.from_pretrained(folder)(
        Image.fromarray(pixels), return_tensors="pt"
    )
    image = model.get_image_features(**fed).pooler_output
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    words = model.get_text_features(**tokens).pooler_output
    return max(0.0, 100 * cosine_similarity(image, words).item())


@pytest.mark.parametrize("turned", [False, True])
def test_clip_scores_are_100_cosines_not_below_0_of_texts_without_brackets(
    networks, pairs, clip, clip_folder, turned
):
    folder = clip if turned else clip_folder
    rows = score(replace(networks, clip=ClipSimilarity(folder)), pairs[:2]).rows
    told = []
    for pair, row in zip(pairs, rows, strict=False):
        mask = np.array(pair.mask) / 255
        mask[0, :] = mask[-1, :] = mask[:, 0] = mask[:, -1] = 1
        part = np.uint8(np.array(pair.edited) * mask[..., None])
        source, text = "the grass near a house", pair.text.replace("[red]", "red")
        by_hand = {
            "clip_source": clip_score(folder, np.array(pair.source), source),
            "clip_edited": clip_score(folder, np.array(pair.edited), text),
            "clip_edited_part": clip_score(folder, part, text),
        }
        told.append(by_hand)
        for key, value in by_hand.items():
            assert row[key] == pytest.approx(value, abs=1e-3), key
    # turned about, the signs are: between the two, every score is above 0 once
    above = {key for row in told for key, value in row.items() if value > 0}
    assert above >= ({"clip_edited", "clip_edited_part"} if turned else {"clip_source"})


@torch.no_grad()
def self_similarity(vit: Path, image: Image.Image) -> torch.Tensor:
    """Heads and tokens as the script cuts them, from the states before the last layer."""
    pixels = torch.from_numpy(np.array(image).astype(np.float32)).permute(2, 0, 1)
    norm = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    fed = norm(Resize(224, max_size=480)(pixels))[None]
    model = ViTModel.from_pretrained(vit, dtype=torch.float32, add_pooling_layer=False).eval()
    before = model(fed, output_hidden_states=True).hidden_states[-2]
    named = dict(model.named_modules())
    norms = [layer for name, layer in named.items() if name.endswith("layernorm_before")]
    keys = [layer for name, layer in named.items() if name.endswith("k_proj")]
    tokens = keys[-1](norms[-1](before))[0]
    heads = tokens.reshape(len(tokens), 2, 16).permute(1, 0, 2)
    joined = heads.transpose(0, 1).reshape(len(tokens), 32)
    lengths = joined.norm(dim=1, keepdim=True)
    return joined @ joined.T / (lengths @ lengths.T).clamp(min=1e-8)


def test_structure_distance_is_the_scripts_of_keys_of_levels_to_255(scored, pairs, vit):
    for pair, row in zip(pairs, scored.rows, strict=True):
        sides = [self_similarity(vit, image) for image in (pair.edited, pair.source)]
        assert sides[0].shape == (785, 785)
        by_hand = mse_loss(*sides).item()
        assert row["structure_distance"] == pytest.approx(by_hand, rel=1e-3)
        assert by_hand > 1e-4


def test_means_have_intervals_definitions_and_all_eight_scores(scored):
    assert [score.key for score in scored.scores.scores] == list(PIE_BENCH)
    for score in scored.scores.scores:
        values = [row[score.key] for row in scored.rows]
        assert score.value == pytest.approx(np.mean(values))
        assert score.interval[0] <= score.value <= score.interval[1]
        assert score.n == 3
        assert score.definition


def test_the_source_itself_is_perfect(networks, pairs):
    row = score(networks, [replace(pairs[0], edited=pairs[0].source)]).rows[0]
    perfect = {"psnr_unedited": 100, "ssim_unedited": 1, "lpips_unedited": 0, "mse_unedited": 0}
    assert row == row | {key: pytest.approx(value) for key, value in perfect.items()}
    assert row["structure_distance"] == 0


def test_an_empty_unedited_part_or_no_text_is_left_out_of_the_mean_and_counted(networks, pairs):
    full = replace(pairs[1], mask=Image.new("L", (SIDE, SIDE), 255), source_text=None)
    scores = score(networks, [pairs[0], full]).scores
    for key in ("psnr_unedited", "lpips_unedited", "clip_source"):
        assert scores[key].n == 1
        assert scores[key].note == "Samples without it: 1 of 2."
    assert scores["clip_edited_part"].n == 2
    alone = score(networks, [replace(full, mask=None)]).scores["psnr_unedited"]
    assert alone.unavailable == "no sample has the mask or the text it needs"


def test_missing_networks_are_named_and_the_rest_is_scored(pairs):
    gone = Unavailable("it needs weights")
    scores = score(PieBenchNetworks(clip=gone, lpips=gone, structure=gone), pairs).scores
    told = [score.key for score in scores.scores if score.unavailable == "it needs weights"]
    assert told == [
        "structure_distance", "lpips_unedited", "clip_source", "clip_edited", "clip_edited_part"
    ]  # fmt: skip
    assert scores["psnr_unedited"].n == 3


def test_borders_belong_to_the_edit():
    pixels = np.array(with_borders(Image.new("L", (5, 4))))
    assert pixels.tolist() == [[255] * 5, [255, 0, 0, 0, 255], [255, 0, 0, 0, 255], [255] * 5]


def test_of_a_strip_the_last_512_pixels_are_the_edit_and_what_is_no_strip_stays(draw):
    strip = draw(0, 2048, 512)
    cut = last_panel(strip, (512, 512))
    assert np.array_equal(np.array(cut), np.array(strip)[:, 1536:])
    for size, source in (((512, 512), (512, 512)), ((96, 80), (192, 160)), ((400, 300), (512, 512)),
                         ((1024, 768), (512, 512)), ((200, 100), (400, 200))):  # fmt: skip
        picture = draw(2, *size)
        assert last_panel(picture, source) is picture
    assert last_panel(draw(3, 400, 100), (400, 200)).size == (200, 100)


def test_a_mask_of_another_size_is_that_samples_failure(networks, pairs):
    with pytest.raises(SampleError, match=r"Sample '0', mask: it is \(5, 5\) pixels"):
        PieBenchSuite(networks).add([replace(pairs[0], mask=Image.new("L", (5, 5)))])
