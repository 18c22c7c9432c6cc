"""From the bytes of a picture file to the pixels that the network sees: the one rule, in one place.

The rule: first frame, converted to RGB on white, the largest centred crop of the model's aspect
ratio, resized with Pillow's antialiased bilinear filter, EXIF orientation applied. Training on
folders of pictures, calibration and the service all call `load_picture`.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from flatfold.contract.errors import FlatfoldError
from flatfold.contract.limits import MAX_PIXELS, PIXEL_CEILING

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
# JPEG's own scaled decoding stops at this multiple of the target, and the filter does the rest.
DRAFT_FACTOR = 2
# Beyond the rows that a JPEG can have, each counts as so many pixels: 50 million rows of one pixel
# would take 2 s and 575 MB.
MOST_ROWS, NARROWEST_ROW = 65_535, 64

# EXIF orientation -> what undoes it. ImageOps.exif_transpose would also copy a picture that needs
# no turn, and write the EXIF data anew, which fails where a tag that nobody needs is damaged.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}  # these exchange rows and columns

# TIFF's tag that says what 0 stands for, and its value for white.
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_BITS, _PLANAR, _PLANE_BY_PLANE = 258, 284, 2


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
        max_pixels: limit on the header's width x height, checked before anything is decoded; of
            more than `MOST_ROWS` rows, each counts as `NARROWEST_ROW` pixels at least.
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
        PictureError: empty, unknown format or kind, or a corrupt header.
    """
    if not data:
        raise PictureError("the picture is empty: 0 bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise PictureError(
            f"not a picture that can be read: {len(data)} bytes, starting {data[:8]!r}; "
            f"{_expected(data)}"
        ) from error
    except Image.DecompressionBombError as error:
        # Pillow's own ceiling, which it checks while it reads the header.
        raise PictureTooLargeError(
            f"the picture's header promises {PIXEL_CEILING / 1e6:.0f} MP or more; "
            f"the limit is {max_pixels / 1e6:.1f} MP"
        ) from error
    except Exception as error:  # what Pillow raises on damaged files shares no base class
        raise PictureError(f"the picture's header is corrupt: {_reason(error)}") from error
    if _is_misread(image):
        raise PictureError(
            "a TIFF of 16 bits a channel, plane by plane and without compression, is not read "
            "here; save it with its channels side by side, or compressed"
        )
    columns, rows = image.size
    narrow = rows > MOST_ROWS and columns < NARROWEST_ROW
    counted = (NARROWEST_ROW if narrow else columns) * rows
    if counted > max_pixels:
        why = f", its rows counted as {NARROWEST_ROW} pixels" if narrow else ""
        raise PictureTooLargeError(
            f"the picture is {columns}x{rows} = {counted / 1e6:.1f} MP{why}; "
            f"the limit is {max_pixels / 1e6:.1f} MP"
        )
    return image


def render(image: Image.Image, height: int, width: int, *, draft: bool = True) -> NDArray[np.uint8]:
    """Decode an opened picture into the pixels that the network sees; see `load_picture`.

    Raises:
        PictureError: truncated or corrupt.
    """
    try:
        return _pixels(image, height, width, draft=draft)
    except Exception as error:  # see open_picture
        raise PictureError(
            f"the {image.format} picture is truncated or corrupt: {_reason(error)}"
        ) from error


def _expected(data: bytes) -> str:
    """Say what would have been read in place of `data`, which Pillow does not know."""
    for kind in FORMATS:
        _, begins = Image.OPEN[kind]
        if begins is not None and begins(data[:16]):
            return f"it begins as {kind}, but its header is damaged or of a kind that is not read"
    return f"expected one of {', '.join(FORMATS)}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _pixels(image: Image.Image, height: int, width: int, *, draft: bool) -> NDArray[np.uint8]:
    scaled = _scale(image, DRAFT_FACTOR * max(height, width)) if draft else None
    _match_transparency(image)
    image.load()  # some formats hold their EXIF data behind the pixels
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    # The turn comes last, when there are few pixels left to turn.
    size = (height, width) if orientation in _SIDEWAYS else (width, height)
    image = _opaque(image)
    if image.size != size:
        box = centre_box(scaled or image.size, size[1], size[0])
        image = image.resize(size, Image.Resampling.BILINEAR, box=box)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if (turn := _TURNS.get(orientation)) is not None:
        image = image.transpose(turn)
    return np.array(image, dtype=np.uint8)


def _scale(image: Image.Image, side: int) -> tuple[float, float] | None:
    """Have libjpeg decode at a fraction of the size, `side` at least; None for other formats.

    Returns:
        Columns and rows that the picture fills: its last pixels may lie partly beyond it, as
        libjpeg rounds up. To take them for whole ones would stretch the picture.
    """
    if image.format not in ("JPEG", "MPO"):  # MPO: a JPEG with others behind it
        return None
    scaled = image.draft(None, (side, side))
    return None if scaled is None else scaled[1][2:]


def _match_transparency(image: Image.Image) -> None:
    """Give a PNG's transparent colour the 8 bits of its pixels; Pillow leaves it in the file's."""
    colour = image.info.get("transparency")
    if image.format != "PNG" or colour is None:
        return
    for tile in image.tile:  # type: ignore[attr-defined]
        if tile.args == "RGB;16B":
            image.info["transparency"] = tuple(value >> 8 for value in colour)
        elif tile.args in ("L;2", "L;4"):
            image.info["transparency"] = colour * {"L;2": 85, "L;4": 17}[tile.args]


def centre_box(
    size: tuple[float, float], height: int, width: int
) -> tuple[float, float, float, float]:
    """Return (left, top, right, bottom) of the largest centred crop with height:width's ratio."""
    columns, rows = size
    scale = min(columns / width, rows / height)
    left = (columns - width * scale) / 2
    top = (rows - height * scale) / 2
    return (left, top, left + width * scale, top + height * scale)


def _is_misread(image: Image.Image) -> bool:
    """Say whether Pillow would take the bytes of a plane's 16-bit values for values of 8 bits."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    return (
        tags.get(_PLANAR) == _PLANE_BY_PLANE
        and image.mode in ("RGB", "RGBA", "CMYK")
        and _bits(image) > 8
        and any(tile.codec_name == "raw" for tile in image.tile)  # type: ignore[attr-defined]
    )


def _bits(image: Image.Image) -> int:
    """Return the bits of the largest channel of a TIFF, 8 of any other picture."""
    tags = getattr(image, "tag_v2", {})
    return int(max(tags.get(_BITS, (8,))))


def _is_negative(image: Image.Image) -> bool:
    """Say whether 0 is white in a picture of more than 8 bits; of fewer, Pillow turns it itself."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    return image.mode.startswith(("I", "F")) and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _opaque(image: Image.Image) -> Image.Image:
    """Return `image` in mode RGB, or L where it is grey and three channels would only be larger."""
    if image.mode.startswith(("I", "F")):
        grey = _eight_bits(image)
        return Image.fromarray(255 - grey if _is_negative(image) else grey)
    if image.has_transparency_data:
        colours = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(colours, mask=colours)
        return white
    if image.mode == "L":
        return image
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Scale the full range of 12 or 16 bits to 8, which Pillow would clip.

    What is transparent is white here too. Floats reach from 0 to 1, to 255 or to 65535, whichever
    holds the largest of them. All is done in place: the largest pictures are the reason for the
    limit on pixels.
    """
    values = np.array(image)  # uint16, int32 or float32
    transparent = values == image.info.get("transparency", math.nan)  # NaN equals nothing
    if image.mode == "F":
        np.nan_to_num(values, copy=False)  # NaN is black
        largest = values.max(initial=0)
        if largest > 255:
            values /= 257  # 65535 -> 255
        elif largest <= 1:
            values *= 255
        np.rint(values, out=values)
        np.clip(values, 0, 255, out=values)
    else:
        if _bits(image) == 12:
            values <<= 4
            values |= values >> 12  # 4095 -> 65535
        # The nearest of value / 257; the sum stays within 16 bits, and the quotient within 8.
        np.clip(values, 0, 65535 - 128, out=values)
        values += 128
        values //= 257
    values[transparent] = 255
    return values.astype(np.uint8)
