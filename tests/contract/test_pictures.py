import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flatfold.contract.pictures import (
    PictureError,
    PictureTooLargeError,
    centre_box,
    load_picture,
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


def test_orientation_tag_turns_the_picture():
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to display
    seen = load_picture(encode(image, "PNG", exif=exif), 32, 32)
    assert np.array_equal(seen, np.rot90(PIXELS, -1))


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
    with pytest.raises(PictureTooLargeError, match=r"8000x8000 = 64\.0 MP; the limit is 50\.0 MP"):
        load_picture(png_header(8000, 8000), 32, 32)


@pytest.mark.parametrize("side", [20_000, 2**31 - 1])
def test_more_pixels_than_pillow_itself_allows(side):
    with pytest.raises(PictureTooLargeError, match=r"the limit is 50\.0 MP"):
        load_picture(png_header(side, side), 32, 32)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"hello, world", "not a picture"),
        (b"%PDF-1.7\n", "not a picture"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:200], "truncated|header"),
        (png_header(32, 32), "truncated|corrupt"),
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
