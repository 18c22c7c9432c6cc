"""BYTES tensors on the wire: each element is its length as a little-endian uint32, then itself."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import BadRequestError
from service.shown import shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LENGTH = struct.Struct("<I")


def decode(data: memoryview, count: int, name: str) -> NDArray[Any]:
    """Split `data` into exactly `count` elements.

    Args:
        data: the tensor's part of the body.
        count: elements that the shape promises.
        name: the tensor's name, for the error.

    Returns:
        object (count,), each element bytes.

    Raises:
        BadRequestError: cut short, or more or fewer elements than promised; those after the
            last promised one are not read.
    """
    elements: list[bytes] = []
    start, end = 0, len(data)
    while start < end:
        if len(elements) == count:
            raise BadRequestError(
                f"input {shown(name)}: its shape needs {count} elements, got more"
            )
        if end - start < _LENGTH.size:
            raise BadRequestError(
                f"input {shown(name)}: expected a 4-byte length at byte {start}, "
                f"got {end - start} bytes"
            )
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > end - start:
            raise BadRequestError(
                f"input {shown(name)}: element {len(elements)} promises {length} bytes, "
                f"got {end - start}"
            )
        elements.append(bytes(data[start : start + length]))
        start += length
    if len(elements) < count:
        raise BadRequestError(
            f"input {shown(name)}: its shape needs {count} elements, got {len(elements)}"
        )
    return as_array(elements)


def encode(array: NDArray[Any]) -> bytes:
    """Join the elements of an object array of str or bytes, in row-major order."""
    parts: list[bytes] = []
    for element in array.ravel():
        data = element.encode() if isinstance(element, str) else bytes(element)
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def as_array(elements: list[bytes]) -> NDArray[Any]:
    """Return a one-dimensional object array; np.array would cut trailing zero bytes."""
    array = np.empty(len(elements), object)
    array[:] = elements
    return array
