from __future__ import annotations

import torch
from torch.nn import functional

from ric.method.judge_pixels import (
    CLIP_MEAN,
    CLIP_STD,
    as_input,
    clamp_straight_through,
    normalize,
    resize,
)


def test_the_straight_through_clamp_bounds_the_value_and_passes_the_gradient():
    pixels = torch.tensor([-15.3, -1.0, 0.25, 1.0, 15.3, 1e30], requires_grad=True)
    clamped = clamp_straight_through(pixels)
    assert clamped.tolist() == [-1, -1, 0.25, 1, 1, 1]
    clamped.backward(torch.arange(6.0))
    assert torch.equal(pixels.grad, torch.arange(6.0))


def test_resizing_to_the_same_size_changes_nothing(draw):
    images = torch.rand(2, 3, 16, 16, generator=draw) * 2 - 1
    torch.testing.assert_close(resize(images, 16), images)


def test_shrinking_averages_and_so_does_not_alias():
    stripes = torch.ones(1, 3, 64, 64)
    stripes[..., ::2] = -1
    # a resampler without antialiasing would pick one of the two colours
    assert resize(stripes, 16)[..., 2:-2].abs().max() < 0.05


def test_overshoot_is_clamped_but_keeps_its_gradient():
    edge = torch.ones(1, 3, 8, 8)
    edge[..., :4] = -1
    edge.requires_grad_()
    plain = functional.interpolate(edge, (16, 16), mode="bicubic", antialias=True)
    assert plain.abs().max() > 1.01
    resized = resize(edge, 16)
    assert resized.abs().max() <= 1
    expected = torch.autograd.grad(plain.sum(), edge)[0]
    torch.testing.assert_close(torch.autograd.grad(resized.sum(), edge)[0], expected)


def test_normalising_takes_minus_one_to_one_as_zero_to_one():
    images = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 2, 2)
    got = normalize(images, torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD))
    for channel in range(3):
        black = (0 - CLIP_MEAN[channel]) / CLIP_STD[channel]
        white = (1 - CLIP_MEAN[channel]) / CLIP_STD[channel]
        torch.testing.assert_close(got[0, channel], torch.full((2, 2), black))
        torch.testing.assert_close(got[1, channel], torch.full((2, 2), white))


def test_half_precision_images_are_resampled_in_float32(draw):
    images = (torch.rand(1, 3, 20, 20, generator=draw) * 2 - 1).bfloat16()
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    got = as_input(images, 8, mean, std)
    assert torch.equal(got, as_input(images.float(), 8, mean, std))
