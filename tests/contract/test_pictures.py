import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from flatfold.contract.limits import PIXEL_CEILING
from flatfold.contract.pictures import (
    PictureError,
    PictureTooLargeError,
    centre_box,
    load_picture,
    open_picture,
)

from .picture_files import encode, png_start

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def png_header(width, height):
    return png_start(width, height) + struct.pack(">I", 0) + b"IDAT"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_at_the_models_size_keep_every_pixel(kind):
    assert np.array_equal(load_picture(encode(Image.fromarray(PIXELS), kind), 32, 32), PIXELS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_keep_the_picture(kind):
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8)[:, None, None], (32, 32, 3))
    seen = load_picture(encode(Image.fromarray(np.ascontiguousarray(ramp)), kind), 32, 32)
    assert np.abs(seen.astype(int) - ramp).max() <= 6


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_orientation_tag_turns_the_picture(orientation, kind):
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(image, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(load_picture(data, 32, 32), np.asarray(expected))
    if orientation == 6:  # rotate 90 degrees clockwise to display
        assert np.array_equal(expected, np.rot90(PIXELS, -1))


def test_a_damaged_tag_beside_the_orientation_does_not_matter():
    tags = struct.pack("<HHHII", 2, 0x0112, 3, 1, 6)
    tags += struct.pack("<HHIfI", 0x0132, 11, 1, 0.5, 0)  # a date that is a number
    data = encode(Image.fromarray(PIXELS), exif=b"Exif\0\0II*\0\x08\0\0\0" + tags)
    assert np.array_equal(load_picture(data, 32, 32), np.rot90(PIXELS, -1))


def test_transparent_becomes_white():
    clear = np.zeros((32, 32, 4), np.uint8)
    assert (load_picture(encode(Image.fromarray(clear)), 32, 32) == 255).all()


def test_transparent_palette_becomes_white():
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30] * 256)
    assert (load_picture(encode(image, transparency=0), 32, 32) == 255).all()


def test_every_alpha_of_every_value_lies_over_white():
    values, alphas = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    image = Image.fromarray(np.stack([values, values, 255 - values, alphas], -1))
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    expected = Image.alpha_composite(white, image).convert("RGB")
    assert np.array_equal(load_picture(encode(image), 256, 256), np.asarray(expected))


def test_grey_is_resized_as_its_three_channels_would_be():
    grey = Image.fromarray(PIXELS[..., 0])
    three = load_picture(encode(grey.convert("RGB")), 19, 27)
    assert np.array_equal(load_picture(encode(grey), 19, 27), three)


def test_grey_and_one_bit_become_three_channels():
    assert load_picture(encode(Image.new("L", (32, 32), 77)), 32, 32)[0, 0].tolist() == [77] * 3
    assert load_picture(encode(Image.new("1", (32, 32), 1)), 32, 32)[0, 0].tolist() == [255] * 3


def test_cmyk_is_converted():
    seen = load_picture(encode(Image.new("CMYK", (32, 32), (255, 0, 0, 0)), "JPEG"), 32, 32)
    assert seen[0, 0, 0] < 40
    assert seen[0, 0, 1] > 200


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (32, 32), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_picture(data, 32, 32)[0, 0].tolist() == [255, 0, 0]


def test_the_centre_is_kept():
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = PIXELS
    assert np.array_equal(load_picture(encode(Image.fromarray(wide)), 32, 32), PIXELS)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 300), st.integers(1, 300))
def test_the_crop_is_inside_centred_and_has_the_ratio(columns, rows, height, width):
    left, top, right, bottom = centre_box((columns, rows), height, width)
    assert left >= -1e-9
    assert top >= -1e-9
    assert right <= columns + 1e-6
    assert bottom <= rows + 1e-6
    assert left + right == pytest.approx(columns)
    assert top + bottom == pytest.approx(rows)
    assert (right - left) * height == pytest.approx((bottom - top) * width)


@pytest.mark.parametrize("orientation", [1, 8])
@pytest.mark.parametrize("size", [(640, 480), (333, 500), (1023, 130), (129, 129)])
def test_scaled_decoding_changes_little(size, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = Image.fromarray(PIXELS[:8, :8]).resize(size, Image.Resampling.BICUBIC)
    data = encode(smooth, "JPEG", quality=90, exif=exif)
    full, fast = (load_picture(data, 32, 32, draft=draft) for draft in (False, True))
    assert np.abs(full.astype(int) - fast).max() <= 8


def test_a_jpeg_with_others_behind_it_is_read_as_the_first_alone():
    first = Image.fromarray(PIXELS[:8, :8]).resize((640, 480), Image.Resampling.BICUBIC)
    data = encode(first, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    assert open_picture(data).format == "MPO"
    seen = load_picture(data, 32, 32)
    assert np.array_equal(seen, load_picture(encode(first, "JPEG"), 32, 32))
    assert not np.array_equal(seen, load_picture(data, 32, 32, draft=False))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_cropped_and_resized_as_it_is_shown(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(RNG.integers(0, 256, (90, 150, 3), dtype=np.uint8))
    data = encode(image, exif=exif)
    shown = encode(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    seen, expected = (load_picture(file, 24, 56).astype(int) for file in (data, shown))
    assert np.abs(seen - expected).max() <= 1  # the filter rounds between its two passes


def test_too_many_pixels_is_told_from_the_header_alone():
    with pytest.raises(PictureTooLargeError, match=r"8000x8000 = 64\.0 MP; the limit is 50\.0 MP$"):
        load_picture(png_header(8000, 8000), 32, 32)


def test_very_many_short_rows_are_not_free():
    with pytest.raises(PictureTooLargeError, match=r"1x1000000 = 64\.0 MP, its rows counted as 64"):
        load_picture(png_header(1, 1_000_000), 32, 32)
    for size in ((1_000_000, 1), (1, 65_535)):
        assert open_picture(png_header(*size)).size == size


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_more_pixels_than_pillow_itself_allows(side):
    with pytest.raises(PictureTooLargeError, match=r"the limit is 50\.0 MP$"):
        load_picture(png_header(side, side), 32, 32)


@pytest.mark.filterwarnings("ignore:Image size")
def test_up_to_pillows_ceiling_the_limit_is_ours():
    open_picture(png_header(PIXEL_CEILING, 1), max_pixels=PIXEL_CEILING)
    with pytest.raises(PictureTooLargeError, match="header promises 179 MP or more"):
        open_picture(png_header(PIXEL_CEILING + 1, 1), max_pixels=PIXEL_CEILING)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_are_read_well_or_not_at_all(dtype, compression):
    tifffile = pytest.importorskip("tifffile")
    planes = np.moveaxis(PIXELS, 2, 0).astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    file = io.BytesIO()
    tifffile.imwrite(
        file, planes, photometric="rgb", planarconfig="separate", compression=compression
    )
    if dtype is np.uint16 and compression is None:
        with pytest.raises(PictureError, match="save it with its channels side by side"):
            load_picture(file.getvalue(), 32, 32)
    else:
        assert np.array_equal(load_picture(file.getvalue(), 32, 32), PIXELS)


PALETTE = encode(Image.new("P", (32, 32)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"hello, world", "not a picture"),
        (b"%PDF-1.7\n", "not a picture.*; expected one of JPEG, PNG, WEBP, GIF, BMP, TIFF$"),
        (png_start(32, 32)[:-1], "begins as PNG, but its header is damaged"),
        (b"II*\0\x08\0\0\0", "begins as TIFF, but its header is damaged or of a kind"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:200], "truncated|header"),
        (png_header(32, 32), "truncated|corrupt"),
        (PALETTE[:33] + PALETTE[PALETTE.index(b"IDAT") - 4 :], "corrupt: AssertionError"),
    ],
)
def test_what_is_no_picture_is_told_so(data, message):
    with pytest.raises(PictureError, match=message):
        load_picture(data, 32, 32)


@given(st.data())
def test_damage_is_an_error_or_a_picture_and_never_something_else(data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]))
    file = bytearray(encode(Image.fromarray(PIXELS), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        seen = load_picture(bytes(file[: data.draw(st.integers(0, len(file)))]), 32, 32)
    except PictureError:
        return
    assert seen.shape == (32, 32, 3)
