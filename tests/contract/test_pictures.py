import io
import struct
import tracemalloc
import zlib

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

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IDAT"
    )


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


def test_sixteen_bits_scale_to_eight():
    deep = np.full((32, 32), 0x8080, np.uint16)
    assert (load_picture(encode(Image.fromarray(deep)), 32, 32) == 128).all()


EVERY_16_BITS = np.arange(65536).reshape(256, 256)


@pytest.mark.parametrize(
    ("dtype", "mode", "kind"),
    [(np.uint16, "I;16", "PNG"), (np.int32, "I", "TIFF"), (np.float32, "F", "TIFF")],
)
def test_every_value_of_sixteen_bits_becomes_the_nearest_of_eight(dtype, mode, kind):
    image = Image.fromarray(EVERY_16_BITS.astype(dtype))
    assert image.mode == mode
    seen = load_picture(encode(image, kind), 256, 256)
    assert np.array_equal(seen[..., 0], np.rint(EVERY_16_BITS / 257))


@pytest.mark.parametrize(
    ("value", "seen"), [(-1, 0), (-(2**31), 0), (65536, 255), (2**31 - 1, 255)]
)
def test_what_is_outside_sixteen_bits_is_black_or_white(value, seen):
    deep = np.full((32, 32), value, np.int32)
    assert (load_picture(encode(Image.fromarray(deep), "TIFF"), 32, 32) == seen).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rest", [3.0, 3000.0])
def test_what_is_no_number_is_black_and_infinity_is_white(rest):
    floats = np.full((32, 32), rest, np.float32)
    floats[0, :3] = [np.nan, -np.inf, np.inf]
    seen = load_picture(encode(Image.fromarray(floats), "TIFF"), 32, 32)
    assert seen[0, :3, 0].tolist() == [0, 0, 255]
    # As one value is past 255, all are taken for 16 bits.
    assert (seen[1:] == round(rest / 257)).all()


def test_floats_up_to_one_reach_from_black_to_white():
    floats = PIXELS[..., 0] / np.float32(255)
    floats[0, :3] = [0, 1, np.nan]
    expected = PIXELS[..., 0].copy()
    expected[0, :3] = [0, 255, 0]
    seen = load_picture(encode(Image.fromarray(floats), "TIFF"), 32, 32)
    assert np.array_equal(seen[..., 0], expected)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_may_be_zero(dtype, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    scale = 257 if dtype is np.uint16 else 1
    image = Image.fromarray(PIXELS[..., 0].astype(dtype) * dtype(scale))
    black, white = (struct.pack("<HHIHH", 262, 3, 1, zero, 0) for zero in (1, 0))
    data = encode(image, "TIFF", exif=exif)
    assert data.count(black) == 1
    seen = load_picture(data.replace(black, white), 32, 32)
    assert np.array_equal(seen, 255 - load_picture(data, 32, 32))


def test_a_transparent_grey_of_sixteen_bits_becomes_white():
    deep = np.full((32, 32), 40_000, np.uint16)
    deep[0] = 40_001
    seen = load_picture(encode(Image.fromarray(deep), transparency=40_000), 32, 32)
    assert (seen[0] == 156).all()
    assert (seen[1:] == 255).all()


def test_sixteen_bits_take_little_memory():
    data = encode(Image.new("I;16", (1000, 1000), 40_000))
    tracemalloc.start()
    try:
        load_picture(data, 32, 32)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 1000 * 1000  # of which Pillow's own bytes, that it joins, are four a pixel


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


def test_scaled_decoding_changes_little():
    smooth = Image.fromarray(PIXELS[:8, :8]).resize((640, 480), Image.Resampling.BICUBIC)
    data = encode(smooth, "JPEG", quality=90)
    full, fast = (load_picture(data, 32, 32, draft=draft) for draft in (False, True))
    assert np.abs(full.astype(int) - fast).max() <= 8


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
        (b"%PDF-1.7\n", "not a picture"),
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
