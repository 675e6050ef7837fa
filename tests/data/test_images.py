from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from ric.data.images import ImageError, open_image, open_raw, picture_size, pixel_hash, web_suffix


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_a_plain_picture_comes_back_unchanged(noise, encoded):
    image = noise()
    assert np.array_equal(pixels(open_image(encoded(image))), pixels(image))


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_and_fsspec_urls_give_the_same_picture(tmp_path, noise, encoded, kind):
    path = tmp_path / "a.png"
    noise().save(path)
    with fsspec.open("memory://pictures/a.png", "wb") as stream:
        stream.write(encoded(noise()))
    assert pixel_hash(open_image(kind(path))) == pixel_hash(noise())
    assert pixel_hash(open_image("memory://pictures/a.png")) == pixel_hash(noise())


def test_grey_is_repeated_over_the_channels(noise, encoded):
    grey = noise(mode="L")
    opened = pixels(open_image(encoded(grey)))
    assert all(np.array_equal(opened[..., c], pixels(grey)) for c in range(3))


def test_one_bit_becomes_black_and_white(encoded):
    image = Image.fromarray(np.array([[True, False]]))
    assert pixels(open_image(encoded(image))).tolist() == [[[255] * 3, [0] * 3]]


def test_sixteen_bit_grey_is_scaled_by_257(encoded):
    values = np.array([[0, 257, 128 * 257, 65535, 1000]], np.uint16)
    opened = pixels(open_image(encoded(Image.fromarray(values))))
    assert opened[0, :, 0].tolist() == [0, 1, 128, 255, round(1000 / 257)]


def test_sixteen_bit_grey_keeps_its_transparent_value_and_no_other(encoded):
    values = np.array([[1000, 1001, 0, 65535]], np.uint16)
    data = encoded(Image.fromarray(values), transparency=1000)
    assert pixels(open_image(data))[0, :, 0].tolist() == [255, round(1001 / 257), 0, 255]


def test_sixteen_bit_grey_of_a_tiff_is_scaled_too(encoded):
    image = Image.fromarray(np.full((2, 2), 65535, np.uint16))
    assert pixels(open_image(encoded(image, "TIFF"))).min() == 255


def test_floats_are_refused_because_their_white_is_unknown(encoded):
    image = Image.fromarray(np.ones((2, 2), np.float32))
    with pytest.raises(ImageError, match="Mode F does not define which value is white"):
        open_image(encoded(image, "TIFF"))


def test_cmyk_without_a_profile_is_the_complement_of_its_inks(encoded):
    inks = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    assert pixels(open_image(encoded(inks, "TIFF")))[0, 0].tolist() == [0, 255, 255]


def test_a_cmyk_jpeg_opens_as_rgb(noise, encoded):
    opened = open_image(encoded(noise().convert("CMYK"), "JPEG", quality=95))
    assert opened.mode == "RGB"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(encoded, mode):
    image = Image.new(mode, (1, 3), 0)
    for y, alpha in enumerate((0, 128, 255)):
        image.putpixel((0, y), (0, 0, 0, alpha) if mode == "RGBA" else (0, alpha))
    column = pixels(open_image(encoded(image)))[:, 0, 0]
    assert column.tolist() == [255, 127, 0]


def test_a_palette_with_a_transparent_entry_is_composited_on_white(encoded):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.putpixel((1, 0), 1)
    opened = pixels(open_image(encoded(image, transparency=0)))
    assert opened[0].tolist() == [[255, 255, 255], [200, 0, 0]]


def test_a_plain_palette_gives_its_colours(encoded):
    image = Image.new("P", (1, 1))
    image.putpalette([10, 20, 30])
    assert pixels(open_image(encoded(image)))[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(noise, encoded, orientation):
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(noise(), exif=exif)
    upright = open_image(data)
    assert np.array_equal(pixels(upright), turned(pixels(noise())))
    assert picture_size(data) == upright.size
    assert upright.getexif().get(0x0112) is None


FORMATS = ["PNG", "JPEG", "MPO", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF", "BMP", "PPM", "TGA",
           "DIB"]  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_the_size_from_the_header_is_that_of_the_opened_picture(noise, encoded, form):
    for said in (None, *range(10)):
        exif = Image.Exif()
        if said is not None:
            exif[0x0112] = said
        data = encoded(noise(), form, exif=exif)
        assert picture_size(data) == open_image(data).size == open_raw(data).size, said


def exif_of(*entries: bytes) -> bytes:
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries)) + b"".join(entries) + b"\0" * 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("entries", "size"),
    [
        # the number as a text, and as a fraction that lies outside the file
        ([struct.pack(">HHI4s", 0x0112, 2, 2, b"6")], (16, 12)),
        ([struct.pack(">HHII", 0x0112, 5, 1, 2**31)], (16, 12)),
        # the number, and then more that is broken
        ([struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0), struct.pack(">HHII", 0x8769, 4, 1, 2**31)],
         (12, 16)),
    ],
    ids=["text", "fraction", "broken rest"],
)  # fmt: skip
def test_an_odd_orientation_counts_for_size_and_picture_alike(noise, encoded, form, entries, size):
    data = encoded(noise(), form, exif=exif_of(*entries))
    assert picture_size(data) == open_image(data).size == open_raw(data).size == size


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("words", ['<x tiff:Orientation="6"/>', "<tiff:Orientation>6</x>"])
def test_an_orientation_that_only_xmp_says_turns_size_and_picture_alike(
    noise, encoded, form, words
):
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", words)
    how = {"PNG": {"pnginfo": texts}, "TIFF": {"tiffinfo": {700: words.encode()}}}
    data = encoded(noise(), form, **how.get(form, {"xmp": words.encode()}))
    upright = open_image(data)
    assert picture_size(data) == upright.size == open_raw(data).size == (12, 16)
    plain = pixels(open_image(encoded(noise(), form)))
    assert np.array_equal(pixels(upright), np.rot90(plain, -1))
    assert open_image(open_raw(data)).size == (12, 16)  # not turned a second time


def wide_gamut_profile() -> bytes:
    """Display P3 primaries with sRGB's curve approximated by a gamma of 2.2, written by hand."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    text = b"wide"
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + text + b"\0" + b"\0" * 79
    tags = {
        b"desc": description,
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": xyz((0.51512, 0.24120, -0.00105)),
        b"gXYZ": xyz((0.29198, 0.69225, 0.04189)),
        b"bXYZ": xyz((0.15710, 0.06657, 0.78407)),
        b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 0, b"\0" * 4, 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", 63190, 65536, 54061)
    head = head.ljust(128, b"\0")
    whole = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def test_a_wide_gamut_profile_is_converted_to_srgb(encoded):
    image = Image.new("RGB", (2, 2), (150, 120, 90))
    opened = open_image(encoded(image, icc_profile=wide_gamut_profile()))
    # by hand: P3 to XYZ (D50), to linear sRGB by the D50-adapted matrix, to sRGB's curve
    to_xyz = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657],
                       [-0.00105, 0.04189, 0.78407]])  # fmt: skip
    from_xyz = np.array([[3.1341359, -1.6173863, -0.4906619], [-0.9787955, 1.9162543, 0.0334427],
                         [0.0719554, -0.2289768, 1.4053861]])  # fmt: skip
    linear = from_xyz @ to_xyz @ (np.array([150, 120, 90]) / 255) ** (round(2.2 * 256) / 256)
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(pixels(opened)[0, 0] - expected).max() <= 1.5
    assert np.abs(pixels(opened)[0, 0] - [150, 120, 90]).max() >= 3
    assert "icc_profile" not in opened.info


def test_an_srgb_profile_changes_nothing_and_alpha_survives_it(noise, encoded):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise()
    image.putalpha(255)
    opened = open_image(encoded(image, icc_profile=profile))
    assert np.abs(pixels(opened) - pixels(noise())).max() <= 1


@pytest.mark.parametrize("profile", [b"not a profile", wide_gamut_profile()])
def test_a_profile_that_is_broken_or_of_another_kind_is_passed_over(noise, encoded, profile):
    grey = noise(mode="L")
    opened = open_image(encoded(grey, icc_profile=profile))
    assert np.array_equal(pixels(opened)[..., 0], pixels(grey))


def test_a_webp_named_png_is_decoded_by_its_content(tmp_path, noise, encoded):
    path = tmp_path / "named.png"
    path.write_bytes(encoded(noise(), "WEBP", lossless=True))
    assert np.array_equal(pixels(open_image(path)), pixels(noise()))
    assert web_suffix(path) == ".webp"


def test_the_suffix_of_other_formats_is_none(noise, encoded):
    assert web_suffix(encoded(noise(), "BMP")) is None
    assert web_suffix(encoded(noise(), "JPEG")) == ".jpg"


def test_a_phone_picture_with_a_second_picture_inside_is_no_animation(noise, encoded):
    data = encoded(noise(), "MPO", save_all=True, append_images=[noise(seed=1)])
    assert open_image(data).size == (16, 12)


def test_a_pillow_picture_is_converted_and_left_as_it_was(noise):
    image = noise(mode="L")
    opened = open_image(image)
    opened.putpixel((0, 0), (1, 2, 3))
    assert image.mode == "L"
    assert np.array_equal(pixels(image), pixels(noise(mode="L")))


def test_open_raw_keeps_the_alpha_channel_and_turns_it_upright(encoded):
    image = Image.new("RGBA", (3, 2), (9, 9, 9, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = open_raw(encoded(image, exif=exif))
    assert (raw.mode, raw.size) == ("RGBA", (2, 3))
    assert np.asarray(raw)[..., 3].max() == 0


def test_a_truncated_picture_says_so(noise, encoded):
    for form in ("PNG", "JPEG", "WEBP"):
        data = encoded(noise(200, 200), form)
        with pytest.raises(ImageError, match="broken"):
            open_image(data[: len(data) // 2])


def test_a_file_of_no_bytes_says_so(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(ImageError, match=r"empty.png' is empty \(0 bytes\)"):
        open_image(path)
    with pytest.raises(ImageError, match=r"The picture is empty \(0 bytes\)"):
        open_image(b"")


def test_what_is_no_picture_says_so(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("hello")
    with pytest.raises(ImageError, match=r"notes.png' is not a picture that can be read"):
        open_image(path)


def test_a_missing_file_and_a_folder_say_so(tmp_path):
    with pytest.raises(ImageError, match=r"gone.png' does not exist"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is not a file"):
        open_image(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        open_image("memory://nothing/here.png")
    with pytest.raises(ImageError, match="cannot be read"):
        open_image("a\0b.png")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animated_picture_is_refused(noise, encoded, form):
    frames = [noise(seed=n) for n in range(3)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    for read in (open_image, open_raw, picture_size):
        with pytest.raises(ImageError, match="animated: it holds more than one frame"):
            read(data)


def test_postscript_is_never_handed_to_another_program():
    with pytest.raises(ImageError, match="not a picture"):
        open_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")


def huge_png(side: int) -> bytes:
    """A PNG whose header promises side x side pixels and that holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8001, 12_000, 60_000])
def test_a_picture_over_the_limit_is_refused_before_it_is_decoded(side):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as caught:
            open_image(huge_png(side))
    assert f"{side}x{side} = {side * side:,} pixels" in caught.value.message
    assert "limit of 64,000,000. Raise it with --max-pixels." in caught.value.message


def test_the_limit_can_be_raised_beyond_pillows_own_and_pillow_keeps_its_own():
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert picture_size(huge_png(20_000), max_pixels=10**9) == (20_000, 20_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_picture_exactly_at_the_limit_opens(noise, encoded):
    data = encoded(noise(10, 10))
    assert open_image(data, max_pixels=100).size == (10, 10)
    with pytest.raises(ImageError, match="over the limit of 99"):
        open_image(data, max_pixels=99)


def test_the_pixel_hash_is_sha256_of_size_and_rgb_bytes(noise):
    expected = hashlib.sha256(b"16x12:" + noise().tobytes()).hexdigest()
    assert pixel_hash(noise()) == expected


def test_the_pixel_hash_tells_shapes_apart_and_not_formats(noise, encoded):
    flat = Image.new("RGB", (2, 8))
    assert pixel_hash(flat) != pixel_hash(Image.new("RGB", (8, 2)))
    lossless = open_image(io.BytesIO(encoded(noise(), "WEBP", lossless=True)).getvalue())
    assert pixel_hash(lossless) == pixel_hash(open_image(encoded(noise(), "BMP")))
