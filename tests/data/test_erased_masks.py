"""Masks that are the source with a region erased, held against the region that was erased."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ric.data.erased_masks import mask_from_erased, mask_of_unknown_kind
from ric.data.images import ImageError, open_image, open_raw

SHARED = Path(__file__).parents[3] / "shared" / "data"
BOX = (30, 20, 60, 40)  # of 100 x 80


@pytest.fixture
def photo() -> Image.Image:
    """A smooth picture of 100 x 80 whose levels lie between 40 and 215."""
    y, x = np.mgrid[:80, :100]
    levels = np.stack([60 + x, 200 - x - y * 0.5, 45 + y * 2 + 10 * np.sin(x / 5)], -1)
    return Image.fromarray(levels.astype(np.uint8))


def region(box: tuple[int, int, int, int] = BOX) -> np.ndarray:
    left, top, right, bottom = box
    mask = np.zeros((80, 100), bool)
    mask[top:bottom, left:right] = True
    return mask


def erased(picture: Image.Image, colour: tuple = (0, 0, 0)) -> Image.Image:
    picture = picture.copy()
    picture.paste(colour, BOX)
    return picture


def box_of(mask: np.ndarray) -> tuple[int, ...]:
    y, x = np.nonzero(mask)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


HOLE = (9, 9, 9, 0)


@pytest.mark.parametrize("kind", ["black", "white"])
@pytest.mark.parametrize("form", ["colour", "alpha"])
def test_what_is_erased_in_the_mask_alone_is_edited(photo, kind, form):
    colour = (0, 0, 0) if kind == "black" else (255, 255, 255)
    mask = erased(photo, colour) if form == "colour" else erased(photo.convert("RGBA"), HOLE)
    assert np.array_equal(mask_from_erased(mask, photo, kind), region())


@pytest.mark.parametrize("kind", ["black", "white"])
@pytest.mark.parametrize("where", [(0, 0, 50, 80), (0, 0, 100, 16), (0, 0, 100, 80)],
                         ids=["half", "letterbox", "background"])  # fmt: skip
def test_parts_of_the_photo_that_look_erased_are_not(photo, kind, where):
    colour = (0, 0, 0) if kind == "black" else (255, 255, 255)
    source = photo.copy()
    source.paste(colour, where)
    source.paste(photo.crop((40, 30, 90, 70)), (40, 30))
    mask = erased(source, colour)
    seen = mask_from_erased(mask, source, kind)
    expected = region() & (np.asarray(source) != colour[0]).any(-1)
    assert expected.any()
    assert np.array_equal(seen, expected)


def test_a_cut_out_is_transparent_before_and_after(photo):
    source = photo.convert("RGBA")
    source.paste(HOLE, (0, 0, 100, 30))
    assert np.array_equal(mask_from_erased(erased(source, HOLE), source), region((30, 30, 60, 40)))
    # painted black instead, alpha is the source's own and says nothing
    painted = erased(source, (0, 0, 0, 255))
    assert np.array_equal(mask_from_erased(painted, source), region((30, 30, 60, 40)))
    # without alpha, what was transparent is black
    flat = Image.alpha_composite(Image.new("RGBA", source.size, "black"), painted).convert("RGB")
    assert np.array_equal(mask_from_erased(flat, source), region((30, 30, 60, 40)))


@pytest.mark.parametrize("read", [mask_from_erased, mask_of_unknown_kind])
def test_stray_transparent_pixels_are_no_region(photo, read):
    mask = erased(photo.convert("RGBA"), HOLE)
    mask.putpixel((95, 70), HOLE)
    assert np.array_equal(read(mask, photo), region())


def test_stray_transparent_pixels_beside_a_black_region_leave_that(photo):
    mask = erased(photo.convert("RGBA"), (0, 0, 0, 255))
    mask.putpixel((95, 70), HOLE)
    assert np.array_equal(mask_from_erased(mask, photo), region())


def test_a_speck_is_less_than_a_thousandth_of_the_image(photo):
    picture = photo.resize((100, 100))
    for pixels, expected in ((10, 10), (9, 0)):
        for colour, mode in (((0, 0, 0), "RGB"), (HOLE, "RGBA")):
            mask = picture.convert(mode)
            mask.paste(colour, (20, 20, 20 + pixels, 21))
            assert mask_from_erased(mask, picture).sum() == expected


def test_touching_corners_are_one_component(photo):
    mask = np.array(photo.resize((100, 100)))
    for step in range(12):
        mask[10 + step, 10 + step] = 0
    assert ndimage.label((mask == 0).all(-1))[1] == 12
    assert mask_from_erased(Image.fromarray(mask), photo).sum() == 12


@pytest.mark.parametrize("quality", [40, 75, 95])
@pytest.mark.parametrize("also", ["mask", "both"])
def test_a_mask_kept_as_jpeg_gives_the_same_box(photo, encoded, quality, also):
    source = photo.resize((400, 320))
    source.paste((0, 0, 0), (0, 0, 400, 40))  # a letterbox, whose edge rings
    source.paste((3, 2, 4), (0, 280, 400, 320))
    mask = source.copy()
    mask.paste((0, 0, 0), (120, 80, 240, 160))
    kept = open_raw(encoded(mask, "JPEG", quality=quality))
    if also == "both":
        source = open_raw(encoded(source, "JPEG", quality=quality))
    seen = mask_from_erased(kept, source)
    assert np.abs(np.subtract(box_of(seen), (120, 80, 240, 160))).max() <= 2
    assert seen[80:160, 120:240].mean() > 0.99


@pytest.mark.parametrize("size", [(300, 240), (61, 50)])
def test_a_source_of_another_size_is_squashed_to_the_mask(photo, size):
    source = photo.resize(size)
    assert np.array_equal(mask_from_erased(erased(photo), source), region())
    hole = erased(photo.convert("RGBA"), HOLE)
    assert np.array_equal(mask_from_erased(hole, source), region())


def test_where_nothing_else_differs_black_counts_on_nearly_black_too(photo):
    night = photo.point(lambda level: 1 + level // 30)
    night.paste(photo.crop((0, 70, 100, 80)), (0, 70))  # a lit street
    assert np.array_equal(mask_from_erased(erased(night), night), region())


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "RGBA"])
def test_a_white_on_black_mask_in_such_a_column_is_known_as_one(photo, mode):
    ordinary = Image.fromarray(region()).convert(mode)
    for kind in ("black", "white"):
        assert np.array_equal(mask_from_erased(ordinary, photo, kind), region())


def test_white_paint_on_transparent_is_read_unless_the_source_is_white_there(photo):
    painted = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    painted.paste((255, 255, 255, 255), BOX)
    for read in (mask_from_erased, mask_of_unknown_kind):
        assert np.array_equal(read(painted, photo), region())
    white = erased(photo, (255, 255, 255))
    with pytest.raises(ImageError, match="plain white and transparent, which does not say which"):
        mask_of_unknown_kind(painted, white)
    assert np.array_equal(mask_from_erased(painted, white), ~region())  # its column says erased


def test_an_object_erased_from_a_white_background_is_not_taken_for_white_on_black(photo):
    product = Image.new("RGB", photo.size, "white")
    product.paste(photo.crop(BOX), BOX[:2])
    assert np.array_equal(mask_from_erased(erased(product), product), region())


def test_a_mask_of_another_picture_is_refused(photo, noise):
    for other in (noise(100, 80), Image.new("RGB", (100, 80), (90, 90, 90))):
        with pytest.raises(ImageError, match="What the mask shows is not the source; a mask is"):
            mask_from_erased(erased(other), photo)


@pytest.mark.parametrize("read", [mask_from_erased, mask_of_unknown_kind])
def test_a_mask_that_is_transparent_everywhere_is_told_as_such(photo, read):
    hidden = photo.copy()
    hidden.putalpha(0)
    with pytest.raises(ImageError, match="The mask is transparent everywhere"):
        read(hidden, photo)


@pytest.mark.parametrize("kind", ["black", "white"])
def test_a_mask_of_one_colour_does_not_say_where(photo, kind):
    photo.paste(kind, (0, 0, 100, 10))
    with pytest.raises(ImageError, match=f"The mask is {kind} everywhere"):
        mask_from_erased(Image.new("RGB", photo.size, kind), photo, kind)


def test_an_unknown_mask_whose_alpha_says_nothing_is_white_on_black(photo, noise):
    ordinary = Image.fromarray(region())
    for mask in (ordinary, ordinary.convert("L").convert("RGBA")):
        assert np.array_equal(mask_of_unknown_kind(mask, photo), region())
    with pytest.raises(ImageError, match=r"looks like a photo.*region erased \(alpha 0\)\.$"):
        mask_of_unknown_kind(noise(64, 64), photo)


def test_an_unknown_mask_with_a_hole_is_an_erased_picture(photo):
    assert np.array_equal(
        mask_of_unknown_kind(erased(photo.convert("RGBA"), HOLE), photo), region()
    )


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is absent")
@pytest.mark.parametrize("quality", [None, 40, 75])
def test_boxes_erased_from_real_photos_are_found_again(encoded, quality):
    for path in sorted((SHARED / "humanedit-six").glob("*_source.png")):
        source = open_image(path).resize((512, 512))
        mask = source.copy()
        mask.paste((0, 0, 0), (100, 150, 300, 290))
        if quality:
            mask = open_raw(encoded(mask, "JPEG", quality=quality))
        box = box_of(mask_from_erased(mask, source))
        assert np.abs(np.subtract(box, (100, 150, 300, 290))).max() <= 2, path.name
