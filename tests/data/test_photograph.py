"""A photo as its file holds it: what is not edited is not touched, and metadata survives."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from display_p3 import display_p3, grey_gamma
from PIL import Image, ImageCms

from ric.data.images import ImageError, open_image
from ric.data.photograph import Photograph, open_photograph

BOX = (3, 2, 9, 8)
Encoded = Callable[..., bytes]


def opened(data: bytes | Path) -> Photograph:
    return open_photograph(data, max_pixels=10**6)


def edited(photo: Photograph, box: tuple[int, int, int, int] = BOX) -> Photograph:
    width, height = box[2] - box[0], box[3] - box[1]
    return photo.with_edit(Image.new("RGB", (width, height), (200, 30, 90)), box, None)


def written(photo: Photograph, form: str, quality: int | None = None) -> Image.Image:
    return Image.open(io.BytesIO(photo.encoded(form, quality)))


def outside(image: Image.Image) -> np.ndarray:
    values = np.array(image)
    values[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 0
    return values


def cases(noise: Any) -> dict[str, Image.Image]:
    with_alpha = noise(mode="RGBA")
    with_alpha.putalpha(noise(seed=1, mode="L"))
    sixteen = np.random.default_rng(3).integers(0, 65536, (12, 16), dtype=np.uint16)
    return {
        "rgb": noise(),
        "rgba": with_alpha,
        "palette": noise().quantize(20),
        "grey": noise(mode="L"),
        "grey with alpha": with_alpha.convert("LA"),
        "one bit": noise(mode="L").point(lambda value: 255 * (value > 99)).convert("1"),
        "16-bit grey": Image.fromarray(sixteen),
    }


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("kind", ["rgb", "rgba", "palette", "grey", "grey with alpha", "one bit"])
def test_what_is_not_edited_is_equal_whatever_the_pictures_mode(noise, encoded, kind, form):
    image = cases(noise)[kind]
    after = written(edited(opened(encoded(image, form))), form)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    assert after.mode == mode
    assert np.array_equal(outside(after), outside(image.convert(mode)))
    inside = np.asarray(after)[BOX[1] : BOX[3], BOX[0] : BOX[2]]
    assert (inside[..., :3] == (200, 30, 90)).all()
    if mode == "RGBA":
        assert np.array_equal(inside[..., 3], np.asarray(image.convert(mode).crop(BOX))[..., 3])


def test_16_bit_grey_keeps_its_lower_bits(noise, encoded):
    image = cases(noise)["16-bit grey"]
    photo = opened(encoded(image))
    weights = np.full((6, 6), 0.5, dtype=np.float32)
    weights[0] = 0
    edit = Image.new("RGB", (6, 6), "white")
    after = np.asarray(written(photo.with_edit(edit, BOX, weights), "PNG"))
    before = np.asarray(image)
    assert after.dtype == np.uint16
    assert np.array_equal(after[:3], before[:3])
    mixed = (before[3:8, 3:9].astype(float) + 65535) / 2
    assert np.abs(after[3:8, 3:9] - mixed).max() <= 0.5


def test_weights_mix_source_and_edit_and_where_they_are_zero_nothing_changes(noise):
    photo = Photograph(noise())
    weights = np.zeros((6, 6), dtype=np.float32)
    weights[:, 1], weights[:, 2], weights[:, 3] = 0.25, 1, 1e-4
    after = np.asarray(photo.with_edit(noise(6, 6, seed=5), BOX, weights).pixels).astype(float)
    before = np.asarray(noise()).astype(float)[2:8, 3:9]
    edit = np.asarray(noise(6, 6, seed=5)).astype(float)
    assert np.array_equal(after[2:8, 3:9][:, [0, 3, 4, 5]], before[:, [0, 3, 4, 5]])
    assert np.array_equal(after[2:8, 5], edit[:, 2])
    assert np.abs(after[2:8, 4] - (0.75 * before[:, 1] + 0.25 * edit[:, 1])).max() <= 0.5


def test_an_editor_sees_srgb_as_open_image_gives_it(noise, encoded):
    whole = (0, 0, 16, 12)
    for kind, image in cases(noise).items():
        for icc in (None, display_p3() if image.mode in ("RGB", "RGBA", "P") else grey_gamma()):
            data = encoded(image, **({"icc_profile": icc} if icc else {}))
            seen = opened(data).as_srgb(whole)
            assert seen.mode == "RGB"
            assert np.array_equal(seen, open_image(data)), kind
            assert np.array_equal(opened(data).as_srgb(BOX), open_image(data).crop(BOX)), kind


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_wide_gamut_photo_keeps_its_profile_and_its_colours_and_the_edit_is_converted(
    noise, encoded, form
):
    data = encoded(noise(), icc_profile=display_p3())
    after = written(edited(opened(data)), form)
    assert after.info["icc_profile"] == display_p3()
    assert np.array_equal(outside(after), outside(noise()))
    # an independent way back: littleCMS's own transform of a single colour
    to_p3 = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), io.BytesIO(display_p3()), "RGB", "RGB"
    )
    (wanted,) = set(
        ImageCms.applyTransform(Image.new("RGB", (1, 1), (200, 30, 90)), to_p3).getdata()
    )
    assert wanted != (200, 30, 90)
    assert set(after.convert("RGB").crop(BOX).getdata()) == {wanted}


def test_a_cmyk_jpeg_stays_cmyk_and_becomes_srgb_where_the_format_has_none(noise, encoded):
    data = encoded(noise(mode="CMYK"), "JPEG", quality=95)
    photo = opened(data)
    assert written(photo, "JPEG").mode == "CMYK"
    png = written(photo, "PNG")
    assert png.mode == "RGB"
    assert np.array_equal(png, open_image(data))


def test_grey_with_a_grey_profile_stays_grey_and_keeps_it(noise, encoded):
    data = encoded(noise(mode="L"), icc_profile=grey_gamma())
    after = written(edited(opened(data)), "PNG")
    assert (after.mode, after.info["icc_profile"]) == ("L", grey_gamma())
    assert np.array_equal(outside(after), outside(noise(mode="L")))


def test_a_profile_that_does_not_fit_its_picture_is_ignored(noise, encoded):
    for wrong in (grey_gamma(), b"no profile at all"):
        after = written(edited(opened(encoded(noise(), icc_profile=wrong))), "PNG")
        assert np.array_equal(outside(after), outside(noise()))
        assert (np.asarray(after)[2, 3] == (200, 30, 90)).all()


def test_alpha_is_kept_by_webp_and_composited_on_white_by_jpeg(noise, encoded):
    image = cases(noise)["rgba"]
    photo = opened(encoded(image))
    assert np.array_equal(written(photo, "WEBP"), image)
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    jpeg = np.asarray(written(photo, "JPEG", 100)).astype(int)
    assert np.abs(jpeg - np.asarray(white.convert("RGB"))).mean() < 3


def test_a_jpeg_is_written_with_its_own_tables_so_that_what_is_not_edited_stays(noise, encoded):
    smooth = noise(8, 6).resize((64, 48), Image.Resampling.BICUBIC)
    data = encoded(smooth, "JPEG", quality=37, subsampling=2)
    again = written(edited(opened(data)), "JPEG")
    before = Image.open(io.BytesIO(data))
    assert again.quantization == before.quantization
    same = encoded(before, "JPEG", qtables=before.quantization, subsampling=2)
    resaved = np.asarray(Image.open(io.BytesIO(same)))
    # the edit is in the first block of colours, whose upsampling reaches one pixel further
    assert np.array_equal(np.asarray(again)[17:], resaved[17:])
    assert np.array_equal(np.asarray(again)[:, 17:], resaved[:, 17:])
    assert written(opened(data), "JPEG", 57).quantization != before.quantization


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_the_tables_of_a_turned_jpeg_are_turned_with_it(noise, encoded, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(noise(16, 8), "JPEG", quality=40, exif=exif, subsampling=1)
    before, after = Image.open(io.BytesIO(data)), written(opened(data), "JPEG")
    tables = {n: np.reshape(table, (8, 8)) for n, table in before.quantization.items()}
    wanted = {n: table.T if turn in (6, 8) else table for n, table in tables.items()}
    found = {n: np.reshape(table, (8, 8)) for n, table in after.quantization.items()}
    assert all(np.array_equal(found[n], wanted[n]) for n in wanted)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_exif_and_resolution_are_kept_and_a_turned_photo_is_upright(noise, encoded, form):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "Maker", "a comment"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    exif.get_ifd(0x8825)[1] = "N"
    data = encoded(noise(16, 12), "JPEG", exif=exif, dpi=(300, 150))
    after = written(opened(data), form)
    assert after.size == (12, 16)
    read = after.getexif()
    assert read.get(0x0112, 1) == 1
    assert read[0x010F] == "Maker"
    assert read.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
    assert read.get_ifd(0x8825)[1] == "N"
    if form in ("PNG", "JPEG"):
        assert [round(one) for one in after.info["dpi"]] == [150, 300]


def test_a_tiffs_own_exif_is_kept_without_the_tags_of_its_layout(noise, encoded):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 8, "Maker"
    lzw = encoded(noise(16, 12), "TIFF", exif=exif, compression="tiff_lzw", dpi=(240, 240))
    assert written(opened(lzw), "TIFF").info["compression"] == "tiff_lzw"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    data = encoded(noise(16, 12), "TIFF", exif=exif.tobytes(), dpi=(240, 240))
    for form in ("TIFF", "JPEG"):
        after = written(opened(data), form)
        assert after.size == (12, 16)
        assert after.getexif()[0x010F] == "Maker"
        assert after.getexif().get(0x0112, 1) == 1
        assert after.getexif().get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"
        assert [round(one) for one in after.info["dpi"]] == [240, 240]
    assert after.getexif().keys() == {0x010F, 0x8769}


def test_webp_without_a_quality_is_lossless_and_with_one_smaller(noise):
    photo = Photograph(noise(64, 64))
    assert np.array_equal(written(photo, "WEBP"), noise(64, 64))
    assert len(photo.encoded("WEBP", 30)) < len(photo.encoded("WEBP", None)) / 2
    assert len(photo.encoded("JPEG", 30)) < len(photo.encoded("JPEG", None)) / 2


def test_what_a_format_cannot_hold_is_one_line(noise):
    wide = Photograph(Image.new("RGB", (16385, 1)))
    with pytest.raises(ImageError, match="It cannot be written as WEBP: "):
        wide.encoded("WEBP", None)
