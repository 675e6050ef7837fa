"""L1, L2, PSNR and the one way a picture is brought to another's size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import l1_loss, mse_loss
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.functional.image import structural_similarity_index_measure as ssim
from torchvision.transforms.functional import to_tensor

from ric.config import EvalConfig
from ric.metrics.pairs import Pair, fit_to
from ric.metrics.pixel import (
    PSNR_CEILING,
    Psnr,
    PsnrInside,
    Ssim,
    black_inside,
    inverted,
    l1,
    l2,
    psnr_inside,
    psnr_outside,
    ssim_map,
    ssim_outside,
)


def test_l1_and_l2_are_magicbrushs_losses_on_tensors(draw):
    a, b = draw(0), draw(1)
    assert l1(a, b) == pytest.approx(l1_loss(to_tensor(a), to_tensor(b)).item(), rel=1e-5)
    assert l2(a, b) == pytest.approx(mse_loss(to_tensor(a), to_tensor(b)).item(), rel=1e-5)


def test_equal_pictures_differ_by_nothing(draw):
    assert l1(draw(0), draw(0)) == l2(draw(0), draw(0)) == 0


def test_pictures_of_two_sizes_are_not_compared(draw):
    with pytest.raises(ValueError, match="cannot be compared pixel by pixel"):
        l1(draw(0), draw(0, 10, 10))


def half_mask(width: int = 96, height: int = 80) -> Image.Image:
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, : width // 2] = 255
    return Image.fromarray(pixels)


def test_psnr_sees_only_what_the_mask_leaves_out(draw):
    source = draw(0)
    pixels = np.array(source)
    pixels[:, :48] = 0
    assert psnr_outside(Image.fromarray(pixels), source, half_mask()) == PSNR_CEILING


def test_psnr_is_the_formula_written_out(draw):
    edited, source = draw(0), draw(1)
    ours, theirs = (np.array(image)[:, 48:] / 255 for image in (edited, source))
    by_hand = 10 * np.log10(1 / ((ours - theirs) ** 2).mean())
    assert psnr_outside(edited, source, half_mask()) == pytest.approx(by_hand)


def test_a_white_mask_leaves_nothing_to_judge(draw):
    assert psnr_outside(draw(0), draw(1), Image.new("L", (96, 80), 255)) is None


def test_a_mask_of_another_size_is_refused(draw):
    with pytest.raises(ValueError, match=r"the mask is \(5, 5\)"):
        psnr_outside(draw(0), draw(1), Image.new("L", (5, 5)))


def test_fitting_is_pils_bicubic_on_eight_bit_pixels(draw):
    by_hand = draw(0).resize((64, 48), Image.Resampling.BICUBIC)
    assert np.array_equal(np.array(fit_to(draw(0), (64, 48))), np.array(by_hand))


def test_a_picture_of_the_right_size_is_left_alone(draw):
    image = draw(0)
    assert fit_to(image, image.size) is image


def test_a_grey_picture_becomes_rgb():
    assert fit_to(Image.new("L", (8, 8), 7), (8, 8)).getpixel((0, 0)) == (7, 7, 7)


def test_psnr_outside_equals_torchmetrics_on_the_part_outside(draw):
    edited, source = draw(0), draw(1)
    right = (slice(None), slice(None), slice(48, None))
    theirs = peak_signal_noise_ratio(to_tensor(edited)[right], to_tensor(source)[right], 1.0)
    assert psnr_outside(edited, source, half_mask()) == pytest.approx(theirs.item(), rel=1e-5)


def exact_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image) / 255).permute(2, 0, 1)[None]


@pytest.mark.parametrize("size", [(96, 80), (299, 299), (7, 9), (12, 65), (12, 128)])
def test_the_map_of_similarity_is_torchmetrics(draw, size):
    a, b = draw(0, *size), draw(1, *size)
    ours, theirs = (exact_tensor(image) for image in (a, b))
    mean, full = ssim(ours, theirs, data_range=1.0, return_full_image=True)
    np.testing.assert_allclose(ssim_map(a, b), full[0].permute(1, 2, 0), atol=1e-9)
    assert ssim_map(a, b).mean() == pytest.approx(mean.item(), abs=1e-9)
    assert mean < 0.9


def test_ssim_outside_is_the_mean_of_torchmetrics_map_where_the_mask_is_black(draw):
    edited, source = draw(0), draw(1)
    blacked = [exact_tensor(image) for image in (edited, source)]
    for tensor in blacked:
        tensor[..., :48] = 0
    _, full = ssim(*blacked, data_range=1.0, return_full_image=True)
    theirs = full[..., 48:].mean().item()
    assert ssim_outside(edited, source, half_mask()) == pytest.approx(theirs, abs=1e-9)


def test_ssim_sees_nothing_of_what_the_mask_holds(draw):
    source = draw(0)
    pixels = np.array(source)
    pixels[:, :48] = np.array(draw(1))[:, :48]
    edited = Image.fromarray(pixels)
    assert ssim_map(edited, source)[:, 48:].mean() < 1  # windows reach over the border
    assert ssim_outside(edited, source, half_mask()) == 1
    assert ssim_outside(source, source, Image.new("L", source.size, 255)) is None


def made(metric):
    return metric(None, EvalConfig(), torch.device("cpu"))


@pytest.mark.parametrize("size", [(96, 80), (299, 299)])
def test_psnr_and_ssim_of_whole_pictures_are_their_formulas(draw, size):
    edited, source, target = (draw(seed, *size) for seed in range(3))
    pair = Pair("a", edited, source, target, mask=half_mask(*size))
    ours, theirs = (np.array(image) / 255 for image in (edited, target))
    by_hand = 10 * np.log10(1 / ((ours - theirs) ** 2).mean())
    assert made(Psnr).score(pair, target) == pytest.approx(by_hand)
    of_library = peak_signal_noise_ratio(to_tensor(edited), to_tensor(target), 1.0).item()
    assert made(Psnr).score(pair, target) == pytest.approx(of_library, rel=1e-5)
    of_library = ssim(exact_tensor(edited), exact_tensor(target), data_range=1.0).item()
    assert made(Ssim).score(pair, target) == pytest.approx(of_library, abs=1e-9)
    for metric in (Psnr, Ssim):
        assert made(metric).score(pair, None) is None
        assert made(metric).score(pair, source) != made(metric).score(pair, target)
    assert made(Psnr).score(pair, edited) == PSNR_CEILING
    assert made(Ssim).score(pair, edited) == pytest.approx(1)


@pytest.mark.parametrize("size", [(96, 80), (299, 299)])
def test_psnr_inside_is_the_formula_on_the_pixels_of_the_mask(draw, size):
    edited, source, target = (draw(seed, *size) for seed in range(3))
    half = size[0] // 2
    ours, theirs = (np.array(image)[:, :half] / 255 for image in (edited, target))
    by_hand = 10 * np.log10(1 / ((ours - theirs) ** 2).mean())
    pair = Pair("a", edited, source, target, mask=half_mask(*size))
    assert made(PsnrInside).score(pair, target) == pytest.approx(by_hand)
    outside = psnr_outside(edited, target, inverted(pair.mask))
    assert psnr_inside(edited, target, pair.mask) == pytest.approx(outside)
    assert made(PsnrInside).score(pair, None) is None
    assert made(PsnrInside).score(Pair("a", edited, source, target), target) is None


def test_a_black_mask_has_no_inside(draw):
    assert psnr_inside(draw(0), draw(1), Image.new("L", (96, 80))) is None
    with pytest.raises(ValueError, match=r"the mask is \(5, 5\)"):
        psnr_inside(draw(0), draw(1), Image.new("L", (5, 5)))


def test_the_inverted_mask_is_white_below_128():
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    assert np.array_equal(np.array(inverted(levels))[0] == 255, np.arange(256) < 128)


def test_black_inside_keeps_what_the_mask_leaves_out(draw):
    pixels = np.array(black_inside(draw(0), half_mask()))
    assert not pixels[:, :48].any()
    assert np.array_equal(pixels[:, 48:], np.array(draw(0))[:, 48:])
    with pytest.raises(ValueError, match=r"the mask is \(5, 5\)"):
        black_inside(draw(0), Image.new("L", (5, 5)))


def test_one_object_with_itself_is_as_similar_as_with_its_copy(draw):
    picture = draw(0)
    assert ssim_outside(picture, picture, half_mask()) == 1
    assert ssim_outside(picture, picture.copy(), half_mask()) == pytest.approx(1, abs=1e-12)
