"""Pictures of more or fewer than 8 bits a channel, and floats: `flatfold.contract.pictures`."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from flatfold.contract.pictures import load_picture

from .picture_files import encode, packed, png_chunk, png_start

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)


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


@pytest.mark.parametrize(("bits", "channels"), [(b, 1) for b in (1, 2, 4, 8, 16)] + [(16, 3)])
def test_the_transparent_colour_of_a_png_is_white_at_any_depth(bits, channels):
    top = 2**bits - 1
    values = RNG.integers(0, top + 1, (32, 32, channels))
    values[0, :3] = np.array([[0], [top // 2], [top]])
    for key in values[0, :3]:
        data = png_start(32, 32, bits, colour=0 if channels == 1 else 2)
        data += png_chunk(b"tRNS", key.astype(">u2").tobytes())
        rows = b"".join(b"\0" + row for row in packed(values, bits))
        data += png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
        clear = (values == key).all(-1, keepdims=True)
        expected = np.where(clear, 255, np.rint(values * 255 / top))
        # Of three channels of 16 bits Pillow keeps the upper 8.
        assert np.abs(load_picture(data, 32, 32) - expected).max() <= (channels == 3)


def test_twelve_bits_reach_from_black_to_white():
    values = np.arange(64 * 64).reshape(64, 64)
    data = encode(Image.fromarray(values.astype(np.uint16)), "TIFF")
    sixteen, twelve = (struct.pack("<HHIHH", 258, 3, 1, bits, 0) for bits in (16, 12))
    assert data.count(sixteen) == 1
    data = data.replace(sixteen, twelve)[: -2 * values.size]
    data += b"".join(packed(values, 12)).ljust(2 * values.size, b"\0")
    seen = load_picture(data, 64, 64)
    assert np.array_equal(seen[..., 0], np.rint(values * 255 / 4095))
