"""From the bytes of a picture file to the pixels that the network sees: the one rule, in one place.

The rule: first frame, EXIF orientation applied, converted to RGB on white, the largest centred
crop of the model's aspect ratio, resized with Pillow's antialiased bilinear filter. Training on
folders of pictures, calibration and the service all call `load_picture`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flatfold.contract.errors import FlatfoldError
from flatfold.contract.limits import MAX_PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# JPEG's own scaled decoding stops at this multiple of the target, and the filter does the rest.
DRAFT_FACTOR = 2
PILLOW_CEILING = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where Pillow itself refuses a header

# What Pillow's decoders raise on damaged files.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError)


class PictureError(FlatfoldError):
    """These bytes are not a picture that can be read."""


class PictureTooLargeError(PictureError):
    """The picture's header promises more pixels than the limit."""


def load_picture(
    data: bytes, height: int, width: int, *, max_pixels: int = MAX_PIXELS, draft: bool = True
) -> NDArray[np.uint8]:
    """Decode, orient, convert, crop and resize one picture.

    Args:
        data: the file's bytes: JPEG, PNG, WebP, GIF (first frame), BMP or TIFF.
        height: rows wanted.
        width: columns wanted.
        max_pixels: limit on the header's width x height, checked before anything is decoded.
        draft: let libjpeg decode large JPEGs at a fraction of their size.

    Returns:
        uint8 (height, width, 3), RGB.

    Raises:
        PictureTooLargeError: the header promises more than `max_pixels`.
        PictureError: empty, unknown format, truncated or corrupt.
    """
    return render(open_picture(data, max_pixels=max_pixels), height, width, draft=draft)


def open_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a picture's header, which takes microseconds, and check its size.

    Raises:
        PictureTooLargeError: the header promises more than `max_pixels`.
        PictureError: empty, unknown format, or a corrupt header.
    """
    if not data:
        raise PictureError("the picture is empty: 0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise PictureError(
            f"not a picture that can be read: {len(data)} bytes, starting {data[:8]!r}; "
            f"expected one of {', '.join(FORMATS)}"
        ) from error
    except Image.DecompressionBombError as error:
        # Pillow's own ceiling, which it checks while it reads the header.
        raise PictureTooLargeError(
            f"the picture's header promises {PILLOW_CEILING / 1e6:.0f} MP or more; "
            f"the limit is {max_pixels / 1e6:.1f} MP (--max-pixels)"
        ) from error
    except _DAMAGE as error:
        raise PictureError(f"the picture's header is corrupt: {error}") from error
    columns, rows = image.size
    if columns * rows > max_pixels:
        raise PictureTooLargeError(
            f"the picture is {columns}x{rows} = {columns * rows / 1e6:.1f} MP; "
            f"the limit is {max_pixels / 1e6:.1f} MP (--max-pixels)"
        )
    return image


def render(image: Image.Image, height: int, width: int, *, draft: bool = True) -> NDArray[np.uint8]:
    """Decode an opened picture into the pixels that the network sees; see `load_picture`.

    Raises:
        PictureError: truncated or corrupt.
    """
    try:
        return _pixels(image, height, width, draft=draft)
    except _DAMAGE as error:
        raise PictureError(
            f"the {image.format} picture is truncated or corrupt: {error}"
        ) from error


def _pixels(image: Image.Image, height: int, width: int, *, draft: bool) -> NDArray[np.uint8]:
    if draft and image.format == "JPEG":
        # libjpeg never scales below the size asked for, whichever way EXIF turns the picture.
        side = DRAFT_FACTOR * max(height, width)
        image.draft(None, (side, side))
    image = to_rgb(ImageOps.exif_transpose(image))
    if image.size != (width, height):
        image = image.resize(
            (width, height), Image.Resampling.BILINEAR, box=centre_box(image.size, height, width)
        )
    return np.array(image, dtype=np.uint8)


def centre_box(size: tuple[int, int], height: int, width: int) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of the largest centred crop with height:width's ratio."""
    columns, rows = size
    scale = min(columns / width, rows / height)
    left = (columns - width * scale) / 2
    top = (rows - height * scale) / 2
    return (left, top, left + width * scale, top + height * scale)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return `image` in mode RGB: alpha over white, 16 bits scaled down, the rest converted."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        # Pillow clips these on conversion; the full range has to be scaled to 8 bits instead.
        values = np.asarray(image, dtype=np.float64)
        if image.mode != "F" or values.max(initial=0) > 255:
            values = values / 257.0  # 65535 -> 255
        return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
