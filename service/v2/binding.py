"""A request's tensors against a model's inputs: the feeds for a run, or what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import BadRequestError
from service.shown import shown
from service.tensors import VARIABLE, from_bytes
from service.v2.length_prefixed import as_array
from service.v2.request import InferRequest, Tensor, WantedOutput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from service.model import Model
    from service.tensors import TensorSpec


def bind_inputs(tensors: Iterable[Tensor], model: Model) -> dict[str, NDArray[Any]]:
    """Return input name -> array, ready to run.

    Raises:
        BadRequestError: an input is unknown, missing, double, or of another datatype or shape.
    """
    specs = {spec.name: spec for spec in model.inputs}
    feeds: dict[str, NDArray[Any]] = {}
    sizes: dict[str, int] = {}
    for tensor in tensors:
        spec = specs.get(tensor.name)
        if spec is None:
            raise BadRequestError(
                f"model {model.name!r} has no input {shown(tensor.name)}; it has {', '.join(specs)}"
            )
        if tensor.name in feeds:
            raise BadRequestError(f"input {tensor.name!r} came twice")
        _check(tensor, spec, sizes)
        feeds[tensor.name] = _runnable(tensor)
    missing = [name for name in specs if name not in feeds]
    if missing:
        raise BadRequestError(f"model {model.name!r} also needs the input {', '.join(missing)}")
    return feeds


def bind_pictures(tensors: tuple[Tensor, ...], model: Model) -> list[bytes] | None:
    """Return the picture files of a request that sends them in place of pixels; None for others.

    Raises:
        BadRequestError: picture files in another shape than [N], N at least 1, or more of them than
            the model takes.
    """
    if model.card is None or len(tensors) != 1:
        return None
    (tensor,) = tensors
    if tensor.datatype != "BYTES" or tensor.name != model.inputs[0].name:
        return None
    if tensor.array.ndim != 1 or not tensor.array.size:
        raise BadRequestError(
            f"input {tensor.name!r}: picture files need the shape [N], N at least 1; "
            f"got {list(tensor.array.shape)}"
        )
    spec, count = model.inputs[0], len(tensor.array)
    if not spec.accepts((count, model.card.height, model.card.width, 3)):
        raise BadRequestError(
            f"input {tensor.name!r}: the model takes one picture at a time, {spec}, got {count}: "
            "send each in a request of its own"
        )
    return list(tensor.array)


def bind_outputs(request: InferRequest, model: Model) -> tuple[WantedOutput, ...]:
    """Return the outputs to answer with, all of them where the request names none.

    Raises:
        BadRequestError: an output is unknown or wanted twice.
    """
    if request.outputs is None:
        return tuple(WantedOutput(name, request.binary) for name in model.output_names)
    seen: set[str] = set()
    for wanted in request.outputs:
        if wanted.name not in model.output_names:
            raise BadRequestError(
                f"model {model.name!r} has no output {shown(wanted.name)}; "
                f"it has {', '.join(model.output_names)}"
            )
        if wanted.name in seen:
            raise BadRequestError(f"output {wanted.name!r} is wanted twice")
        seen.add(wanted.name)
    return request.outputs


def raw_request(body: bytes, model: Model) -> InferRequest:
    """Read a raw binary request: the body is the model's only input, a batch of one.

    Raises:
        BadRequestError: the model has several inputs, or the body is not one row of its input.
    """
    if len(model.inputs) != 1:
        raise BadRequestError(
            f"a raw request fills one input; model {model.name!r} has {len(model.inputs)}"
        )
    spec = model.inputs[0]
    shape = (1, *spec.shape[1:]) if spec.shape[:1] == (VARIABLE,) else spec.shape
    try:
        if spec.datatype == "BYTES":
            array = as_array([body]).reshape(shape)
        else:
            array = from_bytes(body, spec.datatype).reshape(shape)  # infers one free axis
    except ValueError:
        raise BadRequestError(
            f"a raw request for {spec} must be one row of it; got {len(body)} bytes"
        ) from None
    return InferRequest(None, (Tensor(spec.name, spec.datatype, array),), None, True, None)


def _check(tensor: Tensor, spec: TensorSpec, sizes: dict[str, int]) -> None:
    """Check datatype, shape, and that sizes of one symbol agree over all inputs (`sizes`)."""
    shape = tensor.array.shape
    if tensor.datatype != spec.datatype or not spec.accepts(shape):
        raise BadRequestError(
            f"input {spec.name!r}: expected {spec.datatype} {list(spec.shape)}, "
            f"got {tensor.datatype} {list(shape)}"
        )
    for symbol, size in zip(spec.symbols, shape, strict=True):
        if symbol and sizes.setdefault(symbol, size) != size:
            raise BadRequestError(
                f"input {spec.name!r}: expected {symbol} = {sizes[symbol]} as in the other inputs, "
                f"got {size}"
            )


def _runnable(tensor: Tensor) -> NDArray[Any]:
    """Return an array that onnxruntime reads: aligned numbers, or texts for BYTES."""
    if tensor.datatype != "BYTES":
        # Binary data starts anywhere in the body; its arrays are contiguous, but may be unaligned.
        return tensor.array if tensor.array.flags.aligned else tensor.array.copy()
    texts = np.empty(tensor.array.shape, object)
    try:
        texts.ravel()[:] = [element.decode() for element in tensor.array.ravel()]
    except UnicodeDecodeError as error:
        raise BadRequestError(f"input {tensor.name!r}: its texts must be UTF-8: {error}") from error
    return texts
