"""Picture files made byte by byte, for what Pillow itself does not write."""

import io
import struct
import zlib

import numpy as np


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_start(width, height, bits=8, colour=2):
    """Return a PNG up to the end of its header."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)


def png_chunk(name, data):
    checked = name + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))


def packed(values, bits):
    """Return each row's values as so many bits, one after the other, filled up to whole bytes."""
    shifts = np.arange(bits - 1, -1, -1)
    digits = values.reshape(len(values), -1, 1) >> shifts & 1
    return [row.tobytes() for row in np.packbits(digits.reshape(len(values), -1), axis=1)]
