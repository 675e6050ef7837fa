from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.filters import threshold_otsu

from ric.data.images import ImageError, open_image, open_raw
from ric.data.masks import (
    MAX_LEVELS,
    derive_mask,
    mask_from_image,
    shrink_mask,
    signature_box,
    signature_mask,
    without_signature,
)

SIX = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SIX.is_dir(), reason="../shared is absent")


def box_share(mask: np.ndarray) -> float:
    y, x = np.nonzero(mask)
    return (np.ptp(y) + 1) * (np.ptp(x) + 1) / mask.size


# --- given masks ---------------------------------------------------------------------------------


def boxed(size: int = 64) -> Image.Image:
    """A white box on black, as grey."""
    mask = Image.new("L", (size, size))
    mask.paste(255, (size // 4, size // 4, size // 2, size // 2))
    return mask


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA"])
def test_white_is_edit_from_128_on(mode):
    grey = Image.fromarray(np.array([[0, 127, 128, 255, *[0] * 16]], np.uint8))
    expected = [[False, False, True, True, *[False] * 16]]
    assert mask_from_image(grey.convert(mode)).tolist() == expected


def test_one_bit_and_sixteen_bit_masks_are_read():
    assert mask_from_image(Image.fromarray(np.array([[True, False]]))).tolist() == [[True, False]]
    wide = Image.fromarray(np.array([[65535, 20 * 257]], np.uint16))
    assert mask_from_image(wide).tolist() == [[True, False]]


def test_smoothed_and_jpeg_masks_are_still_masks(encoded):
    sharp = np.asarray(boxed()) > 0
    smoothed = boxed(512).resize((64, 64))
    jpeg = open_raw(encoded(smoothed.convert("RGB"), "JPEG", quality=40))
    for image in (smoothed, jpeg):
        assert len(np.unique(np.asarray(image))) > 2
        assert (mask_from_image(image) != sharp).mean() < 0.01


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_a_photo_is_refused_as_a_mask(mode, noise):
    with pytest.raises(ImageError, match=r"looks like a photo: \d+% of its pixels are near"):
        mask_from_image(noise(64, 64).convert(mode))


def test_a_mask_has_nine_tenths_of_its_pixels_within_32_levels_of_black_or_white():
    levels = np.repeat([0, 255, 32, 223], 25).astype(np.uint8).reshape(10, 10)
    levels[0] = 128
    assert mask_from_image(Image.fromarray(levels)).sum() == 10 + 25 + 25
    levels[1, 0] = 33
    with pytest.raises(ImageError, match="89% of its pixels are near black or white"):
        mask_from_image(Image.fromarray(levels))


def test_a_mask_is_grey_within_16_levels():
    colours = np.zeros((10, 10, 3), np.uint8)
    colours[5:] = (255, 239, 255)
    colours[9] = 255
    assert mask_from_image(Image.fromarray(colours)).sum() == 50
    colours[5:9] = (255, 238, 255)
    with pytest.raises(ImageError, match=r"100% of its pixels are near .* and 60% are grey"):
        mask_from_image(Image.fromarray(colours))


def test_a_dark_photo_in_colour_is_refused_too(noise):
    dark = noise(64, 64).point(lambda level: level // 8)
    with pytest.raises(ImageError, match="100% of its pixels are near black or white"):
        mask_from_image(dark)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("other", [1, 17, 100, 255])
def test_black_and_one_other_value_is_read_by_value(kind, other):
    drawn = np.asarray(boxed()) > 0
    values = drawn if kind is bool else (drawn * other).astype(kind)
    assert np.array_equal(mask_from_image(Image.fromarray(values)), drawn)


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 0, 0), (224, 224, 192), (1, 1, 1)])
def test_an_indexed_mask_of_black_and_another_colour_is_read_by_that(colour):
    drawn = np.asarray(boxed()) > 0
    indexed = Image.fromarray(drawn.astype(np.uint8), "P")
    indexed.putpalette([0, 0, 0, *colour])
    if any(colour):
        for image in (indexed, indexed.convert("RGB"), indexed.convert("RGBA")):
            assert np.array_equal(mask_from_image(image), drawn)
    else:
        assert not mask_from_image(indexed).any()  # black on black is an empty mask


def test_an_indexed_mask_whose_colours_are_white_and_black_is_read_by_them():
    drawn = np.asarray(boxed()) > 0
    indexed = Image.fromarray((~drawn).astype(np.uint8), "P")
    indexed.putpalette([255, 255, 255, 0, 0, 0])
    assert np.array_equal(mask_from_image(indexed), drawn)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 1, 2], "holds the values 0, 1 and 2; a mask is white where"),
        ([1, 2], "holds the values 1 and 2; a mask is white where"),
        ([1], "holds the value 1 alone; a mask is white where"),
        ([100, 200], "holds the values 100 and 200: 0% of its pixels are near"),
        ([0, 1, 1, 255], "holds the values 0, 1 and 255; a mask"),  # class, and its border ignored
        (range(20), "holds no white; a mask is white where"),
    ],
)
def test_values_that_do_not_say_what_is_white_are_named(values, words):
    with pytest.raises(ImageError, match=f"The mask {words}"):
        mask_from_image(Image.fromarray(np.tile(np.array(values, np.uint8), (10, 1))))


def test_sixteen_bit_values_are_named_as_they_stand_in_the_file():
    with pytest.raises(ImageError, match="The mask holds the values 0, 1 and 255; a mask is white"):
        mask_from_image(Image.fromarray(np.array([[0, 1, 255]], np.uint16)))


def test_colours_that_do_not_say_what_is_white_are_named():
    indexed = Image.fromarray(np.arange(3, dtype=np.uint8).repeat(30).reshape(9, 10), "P")
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    with pytest.raises(ImageError, match="holds the colours #000000, #008000 and #800000: 33% of"):
        mask_from_image(indexed)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_mask_that_is_transparent_everywhere_is_told_as_such(mode):
    with pytest.raises(ImageError, match="The mask is transparent everywhere"):
        mask_from_image(Image.new("RGBA", (8, 8), (255, 255, 255, 0)).convert(mode))


def test_transparent_parts_of_a_mask_are_not_edited():
    image = Image.new("RGBA", (2, 1), (255, 255, 255, 255))
    image.putpixel((1, 0), (255, 255, 255, 0))
    assert mask_from_image(image).tolist() == [[True, False]]


def test_a_mask_of_floats_is_refused():
    with pytest.raises(ImageError, match="Mode F does not define which value is white"):
        mask_from_image(Image.fromarray(np.ones((2, 2), np.float32)))


# --- derived masks -------------------------------------------------------------------------------


def pair(size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture, and the same as another encoder would have written it."""
    y, x = np.mgrid[:size, :size] / size
    before = np.stack([100 + 80 * x, 120 + 60 * y, 140 - 50 * x * y], -1)
    after = before + np.random.default_rng(0).normal(0, 3, before.shape)
    return before.clip(0, 255).astype(np.uint8), after.clip(0, 255).astype(np.uint8)


def derived(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return derive_mask(Image.fromarray(before), Image.fromarray(after))


def test_a_derived_mask_is_the_changed_region_dilated_by_one_percent():
    before, after = pair()
    after[60:120, 80:160] = (250, 20, 20)
    mask = derived(before, after)
    y, x = np.nonzero(mask)
    radius = round(0.01 * 256)
    assert abs(y.min() - (60 - radius)) <= 1
    assert abs(y.max() - (119 + radius)) <= 1
    assert abs(x.min() - (80 - radius)) <= 1
    assert abs(x.max() - (159 + radius)) <= 1


def test_re_encoding_alone_gives_an_empty_mask():
    assert not derived(*pair()).any()


def test_identical_pictures_give_an_empty_mask():
    before, _ = pair()
    assert not derived(before, before).any()


def test_a_faint_change_under_20_levels_does_not_count():
    before = np.full((128, 128, 3), 120, np.uint8)
    after = before.copy()
    after[30:80, 30:80] += 10  # about 4 units of lightness: 10 levels
    assert not derived(before, after).any()
    after[30:80, 30:80] += 20
    assert derived(before, after).any()


def test_components_under_half_a_percent_are_dropped():
    before, after = pair()
    after[60:120, 80:160] = (250, 20, 20)
    after[200:216, 30:46] = (250, 20, 20)  # 256 of 65,536 pixels: 0.4 %
    assert not derived(before, after)[190:225, 20:55].any()
    after[200:220, 30:50] = (250, 20, 20)  # 400 pixels: 0.6 %
    assert derived(before, after)[205:215, 35:45].all()


def test_thin_lines_are_opened_away():
    before, after = pair()
    after[60:120, 80:160] = (250, 20, 20)
    after[30:32, :] = (250, 20, 20)
    assert not derived(before, after)[20:40].any()


def test_the_signature_strip_is_never_part_of_a_derived_mask():
    before, after = pair()
    after[-9:, -31:] = (250, 220, 20)
    assert not derived(before, after).any()
    after[150:, 150:] = (250, 20, 20)
    left, top, _, _ = signature_box(256, 256)
    assert not derived(before, after)[top:, left:].any()


def test_the_source_is_resized_to_the_target():
    before, after = pair()
    after[60:120, 80:160] = (250, 20, 20)
    small = Image.fromarray(before).resize((100, 64))
    mask = derive_mask(small, Image.fromarray(after))
    assert mask.shape == (256, 256)
    assert 0.05 < box_share(mask) < 0.12


def test_pairs_over_1024_pixels_get_a_mask_of_their_own_size():
    before, after = pair(512)
    after[100:300, 200:400] = (250, 20, 20)
    large = [Image.fromarray(p).resize((2048, 1024)) for p in (before, after)]
    mask = derive_mask(*large)
    assert mask.shape == (1024, 2048)
    assert mask[250:550, 850:1550].all()
    assert not mask[:, :700].any()


def test_the_threshold_is_otsus_of_the_capped_difference():
    # two changed halves, 60 and 255 levels: uncapped, Otsu's threshold would lose the fainter one
    levels = np.zeros((100, 100))
    levels[10:50, 10:50], levels[50:90, 10:50] = 60, 255
    assert threshold_otsu(levels) >= 60
    assert threshold_otsu(np.minimum(levels, MAX_LEVELS)) < 60


@needs_shared
def test_boxes_of_five_of_six_real_pairs_cover_less_than_a_fifth():
    shares = {}
    for path in sorted((SIX / "humanedit-six").glob("*_source.png")):
        target = path.with_name(path.name.replace("source", "target"))
        shares[path.stem] = box_share(derive_mask(open_image(path), open_image(target)))
    assert len(shares) == 6
    assert sum(share < 0.2 for share in shares.values()) >= 5, shares


# --- the signature and the sizes -----------------------------------------------------------------


def test_the_signature_box_is_the_right_12_and_bottom_3_5_percent():
    assert signature_box(1000, 1000) == (880, 965, 1000, 1000)
    assert signature_box(100, 10) == (88, 9, 100, 10)


def test_the_signature_is_cut_from_a_copy():
    mask = np.ones((1000, 1000), bool)
    cut = without_signature(mask)
    assert mask.all()
    assert (~cut).sum() == 120 * 35
    assert np.array_equal(~cut, signature_mask(1000))


@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (100, 33), (16, 128)])
def test_masks_shrink_by_maximum(shape):
    mask = np.random.default_rng(1).random(shape) < 0.02
    expected = torch.nn.functional.adaptive_max_pool2d(torch.tensor(mask[None].astype(float)), 16)
    assert np.array_equal(shrink_mask(mask, 16), expected[0].numpy() > 0)


def test_a_line_one_pixel_wide_survives_any_size():
    mask = np.zeros((1000, 700), bool)
    mask[:, 333] = True
    for size in (512, 224, 64, 7, 1):
        assert shrink_mask(mask, size).any(0).sum() >= 1
        assert shrink_mask(mask, size).any(1).all()


def test_masks_grow_by_nearest():
    mask = np.random.default_rng(2).random((5, 9)) < 0.4
    nearest = Image.fromarray(mask.astype(np.uint8)).resize((24, 24), Image.Resampling.NEAREST)
    assert np.array_equal(shrink_mask(mask, 24), np.asarray(nearest) > 0)


def test_one_axis_may_grow_while_the_other_shrinks():
    mask = np.zeros((4, 100), bool)
    mask[2, 57] = True
    shrunk = shrink_mask(mask, 10)
    assert np.argwhere(shrunk).tolist() == [[5, 5], [6, 5]]
