"""An infer request on the wire -> its tensors and what is wanted back. Knows no model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from service.errors import BadRequestError
from service.parsing import parse_json
from service.shown import shown
from service.tensors import DTYPES, from_bytes
from service.threads import by_size
from service.v2 import json_data, length_prefixed
from service.v2.parameters import flag, is_count, parameters_of, timeout

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_RANK = 32


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input as it came: protocol datatype, and the array in its shape."""

    name: str
    datatype: str
    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """One output as asked for; `classes` 0 means the tensor itself, k its k best classes."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A whole request.

    Attributes:
        id: echoed in the answer; None when not given.
        tensors: the inputs.
        outputs: what is wanted; None for all.
        binary: whether outputs not asked for one by one go as binary.
        timeout: seconds that it may wait; None without a limit of its own.
    """

    id: str | None
    tensors: tuple[Tensor, ...]
    outputs: tuple[WantedOutput, ...] | None
    binary: bool
    timeout: float | None


async def read(body: bytes, header_length: int | None) -> InferRequest:
    """As `decode`, in a thread where that takes long.

    JSON does, byte for byte. Numbers in binary data are not even copied, but texts are.
    """
    text = len(body) if header_length is None else header_length
    return await by_size(max(text, len(body) // 8), partial(decode, body, header_length))


def decode(body: bytes, header_length: int | None) -> InferRequest:
    """Read a request; arrays of numbers are views into `body`.

    Args:
        body: uncompressed.
        header_length: bytes of JSON at its start; None when all of it is JSON.

    Raises:
        BadRequestError: anything about it is wrong; the message says what was expected.
    """
    if header_length is not None and not 0 <= header_length <= len(body):
        raise BadRequestError(
            f"Inference-Header-Content-Length is {header_length}; "
            f"expected 0 to {len(body)}, the body's length"
        )
    view = memoryview(body)
    message = _object(view if header_length is None else view[:header_length])
    binary = view[len(body) if header_length is None else header_length :]
    parameters = parameters_of(message, "the request")
    by_default = flag(parameters, "binary_data_output", default=False)
    tensors = _inputs(message.get("inputs"), binary)
    request_id = message.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BadRequestError(f"'id' must be a text, got {shown(request_id)}")
    return InferRequest(
        id=request_id,
        tensors=tensors,
        outputs=_outputs(message.get("outputs"), by_default),
        binary=by_default,
        timeout=timeout(parameters),
    )


def _object(text: memoryview) -> dict[str, Any]:
    try:
        message = parse_json(text)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"the request is not valid JSON: {error}") from error
    if not isinstance(message, dict):
        raise BadRequestError(f"the request must be a JSON object, got {shown(message)}")
    return message


def _inputs(entries: Any, binary: memoryview) -> tuple[Tensor, ...]:
    if not isinstance(entries, list) or not entries:
        raise BadRequestError(
            f"'inputs' must be an array of at least one input, got {shown(entries)}"
        )
    tensors = []
    used = 0
    for entry in entries:
        tensor, size = _input(entry, binary[used:])
        tensors.append(tensor)
        used += size
    if used != len(binary):
        raise BadRequestError(
            f"the inputs take {used} bytes of binary data, got {len(binary)} after the JSON"
        )
    return tuple(tensors)


def _input(entry: Any, binary: memoryview) -> tuple[Tensor, int]:
    """Return one input, and how many bytes at the start of `binary` were its own."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise BadRequestError(f"an input must be an object with a 'name', got {shown(entry)}")
    name, datatype = entry["name"], entry.get("datatype")
    if not isinstance(datatype, str) or datatype not in DTYPES:
        raise BadRequestError(
            f"input {shown(name)}: 'datatype' must be one of {', '.join(DTYPES)}, "
            f"got {shown(datatype)}"
        )
    shape = _shape(entry.get("shape"), name)
    count = math.prod(shape)
    size = parameters_of(entry, "input", name).get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise BadRequestError(
                f"input {shown(name)}: expected 'data' or 'binary_data_size', got none"
            )
        array, size = json_data.decode(entry["data"], datatype, count, name), 0
    else:
        if "data" in entry:
            raise BadRequestError(
                f"input {shown(name)}: expected 'data' or 'binary_data_size', got both"
            )
        array = _binary(binary, size, datatype, count, name)
    return Tensor(name, datatype, _reshape(array, shape, name)), size


def _binary(binary: memoryview, size: Any, datatype: str, count: int, name: str) -> NDArray[Any]:
    if not is_count(size) or size > len(binary):
        raise BadRequestError(
            f"input {shown(name)}: 'binary_data_size' is {shown(size)}; "
            f"expected 0 to {len(binary)}, what is left of the body"
        )
    if datatype == "BYTES":
        return length_prefixed.decode(binary[:size], count, name)
    dtype = DTYPES[datatype]
    if size != count * dtype.itemsize:
        raise BadRequestError(
            f"input {shown(name)}: {count} elements of {datatype} take "
            f"{count * dtype.itemsize} bytes, got 'binary_data_size' {size}"
        )
    return from_bytes(binary, datatype, count)


def _reshape(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:  # an axis of 0 beside one past NumPy's limits
        raise BadRequestError(f"input {shown(name)}: shape {list(shape)} is too large") from error


def _shape(shape: Any, name: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(is_count, shape)):
        raise BadRequestError(
            f"input {shown(name)}: 'shape' must be an array of at most {MAX_RANK} sizes, "
            f"whole numbers of at least 0, got {shown(shape)}"
        )
    return tuple(shape)


def _outputs(entries: Any, by_default: bool) -> tuple[WantedOutput, ...] | None:
    if entries is None:
        return None
    if not isinstance(entries, list):
        raise BadRequestError(f"'outputs' must be an array, got {shown(entries)}")
    wanted = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise BadRequestError(f"an output must be an object with a 'name', got {shown(entry)}")
        name = entry["name"]
        parameters = parameters_of(entry, "output", name)
        classes = parameters.get("classification", 0)
        if not is_count(classes):
            raise BadRequestError(
                f"output {shown(name)}: 'classification' must be a count, got {shown(classes)}"
            )
        binary = flag(parameters, "binary_data", default=by_default)
        wanted.append(WantedOutput(name, binary, classes))
    return tuple(wanted) or None
