"""A model's arrays -> an infer response on the wire: JSON, then the binary tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from service.v2 import json_data, length_prefixed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

Headers = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")
BINARY_TYPE = (b"content-type", b"application/octet-stream")
_DATATYPES = {
    "b1": "BOOL", "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64",
    "i1": "INT8", "i2": "INT16", "i4": "INT32", "i8": "INT64",
    "f2": "FP16", "f4": "FP32", "f8": "FP64",
}  # fmt: skip


def encode(
    head: dict[str, Any], outputs: Iterable[tuple[str, NDArray[Any], bool]]
) -> tuple[Headers, bytes]:
    """Write a response.

    Args:
        head: what stands before the outputs: id, model_name, model_version.
        outputs: name, array and whether it goes as binary, in the order of the answer.

    Returns:
        The headers and the body.

    Raises:
        UnprocessableError: an output that goes as JSON holds what JSON cannot carry.
    """
    entries = []
    parts = [b""]
    for name, array, binary in outputs:
        entry: dict[str, Any] = {
            "name": name,
            "datatype": _DATATYPES.get(array.dtype.str[1:], "BYTES"),
            "shape": array.shape,
        }
        if binary:
            data = _raw(array)
            entry["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
        else:
            entry["data"] = json_data.encode(array, name)
        entries.append(entry)
    text = orjson.dumps(head | {"outputs": entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    if len(parts) == 1:
        return [JSON_TYPE], text
    parts[0] = text
    length = (b"inference-header-content-length", b"%d" % len(text))
    return [BINARY_TYPE, length], b"".join(parts)


def _raw(array: NDArray[Any]) -> bytes:
    if array.dtype == object:
        return length_prefixed.encode(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
