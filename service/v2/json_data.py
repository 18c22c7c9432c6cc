"""Tensors as JSON: numbers or texts, nested or flat, checked before they become an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import BadRequestError, UnprocessableError
from service.shown import shown
from service.tensors import DTYPES
from service.v2.length_prefixed import as_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KINDS = {"f": "numbers", "U": "texts"}


def decode(data: Any, datatype: str, count: int, name: str) -> NDArray[Any]:
    """Read a JSON array.

    Args:
        data: what stood under "data".
        datatype: protocol datatype.
        count: elements that the shape promises.
        name: the tensor's name, for the error.

    Returns:
        One-dimensional, `count` elements of the datatype's dtype; bytes objects for BYTES.

    Raises:
        BadRequestError: no array, ragged, of another kind, out of range, or of another length.
    """
    if not isinstance(data, list):
        raise BadRequestError(f"input {shown(name)}: 'data' must be an array, got {_kind(data)}")
    array = _texts(data, name) if datatype == "BYTES" else _numbers(data, datatype, name)
    if array.size != count:
        raise BadRequestError(
            f"input {shown(name)}: its shape needs {count} elements, got {array.size}"
        )
    return array


def encode(array: NDArray[Any], name: str) -> Any:
    """Return what orjson writes as a flat JSON array, row-major.

    Raises:
        UnprocessableError: NaN or infinity, for which JSON has no number.
    """
    if array.dtype == object:
        return [_text(element, name) for element in array.ravel()]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UnprocessableError(
            f"output {name!r} holds NaN or infinity, which JSON cannot carry; "
            "ask for it with binary_data"
        )
    return np.ascontiguousarray(array).reshape(-1)


def _text(element: str | bytes, name: str) -> str:
    try:
        return element if isinstance(element, str) else element.decode()
    except UnicodeDecodeError as error:
        raise UnprocessableError(
            f"output {name!r} holds bytes that are no UTF-8 text; ask for it with binary_data"
        ) from error


def _texts(data: list[Any], name: str) -> NDArray[Any]:
    elements: list[bytes] = []
    level = data
    while level and all(isinstance(entry, list) for entry in level):
        level = [element for entry in level for element in entry]
    for element in level:
        if not isinstance(element, str):
            raise BadRequestError(f"input {shown(name)}: BYTES needs texts, got {_kind(element)}")
        elements.append(element.encode())
    return as_array(elements)


def _numbers(data: list[Any], datatype: str, name: str) -> NDArray[Any]:
    dtype = DTYPES[datatype]
    try:
        came = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(
            f"input {shown(name)}: 'data' must be flat or nested evenly ({error})"
        ) from error
    if came.size == 0:
        return np.empty(0, dtype)
    convert = {"b": _booleans, "f": _floats}.get(dtype.kind, _integers)
    try:
        return convert(came, data, dtype).reshape(-1)
    except _MisfitError as error:
        raise BadRequestError(
            f"input {shown(name)}: {datatype} needs {_needs(dtype)}, got {error}"
        ) from None


class _MisfitError(Exception):
    """What came, by its kind or its value, where something else is needed."""


# Each returns `came` as `dtype`, or raises _MisfitError. True and false count as 1 and 0 and the
# other way round everywhere: of a mixture NumPy does not tell which of its elements were which.


def _booleans(came: NDArray[Any], _: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    _expect(came, "biu")
    _all_fit(came, (came == 0) | (came == 1))
    return came.astype(dtype)


def _floats(came: NDArray[Any], _: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    _expect(came, "biuf")
    with np.errstate(over="ignore"):
        array = came.astype(dtype)
    _all_fit(came, np.isfinite(array))
    return array


def _integers(came: NDArray[Any], data: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    _expect(came, "biuf")
    if came.dtype.kind == "f":
        # NumPy makes floats of integers around 2**63; only then is each looked at.
        came = np.array(data, dtype=object)
        for value in came.flat:
            if not isinstance(value, int):
                raise _MisfitError(value)
    limits = np.iinfo(dtype)
    for value in (int(came.min()), int(came.max())):
        if not limits.min <= value <= limits.max:
            raise _MisfitError(value)
    return came.astype(dtype)


def _expect(came: NDArray[Any], kinds: str) -> None:
    if came.dtype.kind not in kinds:
        raise _MisfitError(_KINDS.get(came.dtype.kind, "something else"))


def _all_fit(came: NDArray[Any], fits: NDArray[np.bool_]) -> None:
    if not fits.all():
        raise _MisfitError(came[~fits][0])


def _needs(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return f"integers from {limits.min} to {limits.max}"
    if dtype.kind == "f":
        return f"numbers of at most {np.finfo(dtype).max}"
    return "booleans"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", type(None): "null"}
    return names.get(type(value), f"{shown(value)}")
