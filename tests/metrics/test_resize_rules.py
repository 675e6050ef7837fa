"""Every resize rule against the library it is named after."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor
from transformers import CLIPImageProcessorPil

from ric.metrics import clip_similarity, resize_rules

SIZES = [(256, 256), (299, 299), (512, 512), (1024, 700), (40, 90)]


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_clean_fids_to_a_thousandth_of_a_level(draw, size):
    image = draw(0, *size)
    theirs = build_resizer("clean")(np.array(image))
    ours = resize_rules.clean_resize(image).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_pytorch_fid_is_clean_fids_legacy_pytorch(draw, size):
    image = draw(1, *size)
    theirs = build_resizer("legacy_pytorch")(np.array(image))
    ours = resize_rules.pytorch_fid_resize(image).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_torch_fidelity_is_its_own_interpolation_of_eight_bit_pixels_to_the_bit(draw, size):
    image = draw(2, *size)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    theirs = interpolate_bilinear_2d_like_tensorflow1x(pixels.float(), (299, 299), None, False)
    torch.testing.assert_close(resize_rules.torch_fidelity_resize(image), theirs[0], atol=0, rtol=0)


def test_the_three_inception_rules_differ(draw):
    image = draw(3, 512, 512)
    clean, tf1, torch_ = (
        rule(image)
        for rule in (
            resize_rules.clean_resize,
            resize_rules.torch_fidelity_resize,
            resize_rules.pytorch_fid_resize,
        )
    )
    for one, other in ((clean, tf1), (clean, torch_), (tf1, torch_)):
        assert (one - other).square().mean().sqrt() > 1


def openai(image: Image.Image) -> torch.Tensor:
    """OpenAI's `clip._transform(224)`."""
    preprocess = Compose(
        [
            Resize(224, interpolation=Image.Resampling.BICUBIC),
            CenterCrop(224),
            ToTensor(),
            Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ]
    )
    return preprocess(image)


def ours(image: Image.Image) -> torch.Tensor:
    pixels = resize_rules.resize_and_crop(image, 224, 224)
    return resize_rules.normalise(pixels / 255, clip_similarity.MEAN, clip_similarity.STD)


@pytest.mark.filterwarnings("ignore:Argument 'interpolation'")
@pytest.mark.parametrize("size", [*SIZES, (333, 257), (641, 333)])
def test_clip_pixels_are_openais(draw, size):
    image = draw(4, *size)
    torch.testing.assert_close(ours(image), openai(image), atol=1e-6, rtol=0)


def test_clip_pixels_are_the_pil_processors_too(draw):
    image = draw(5, 300, 256)
    theirs = CLIPImageProcessorPil()(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(ours(image), theirs, atol=1e-5, rtol=0)


def test_crop_is_the_centre_of_pils_bicubic(draw):
    image = draw(6, 512, 256)
    resized = image.resize((512 * 64 // 256, 64), Image.Resampling.BICUBIC)
    by_hand = np.array(resized.crop((32, 0, 96, 64)))
    pixels = resize_rules.resize_and_crop(image, 64, 64).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, by_hand)
