"""Reading tensors, wherever their bytes are: in the model's file or in one beside it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from export.node import attribute_bodies
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

FLOAT_TYPES = frozenset(
    (
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
    )
)


# A new tensor of this size goes to disk at once, where a folder is given for it.
SPILLED_BYTES = 1 << 24
_SPILL: ContextVar[Path | None] = ContextVar("spill", default=None)


class ExternalDataError(FlatfoldError):
    """A tensor's external data is missing, too short, or outside the model's folder."""


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's bytes lie in another file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def external_range(tensor: TensorProto, folder: Path | None) -> tuple[Path, int, int]:
    """Return the file, the offset and the length in bytes of an external tensor.

    Args:
        tensor: one whose `data_location` is EXTERNAL.
        folder: the folder of the model's file; None when the model came without one.

    Raises:
        ExternalDataError: no folder, a path that leaves it, no such file, or a file too short.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ExternalDataError(
            f"tensor {tensor.name!r} lies in the external file {location!r}; "
            "read the model with export.loading.load_model, which brings its data along"
        )
    spilled = _SPILL.get()
    if spilled is not None and location and Path(location).parent == spilled:
        folder = spilled
    path = (folder / location).resolve()
    if not location or not path.is_relative_to(folder.resolve()):
        raise ExternalDataError(
            f"tensor {tensor.name!r} asks for the external file {location!r}, outside the model's "
            "folder; the model is damaged or hostile"
        )
    if not path.is_file():
        raise ExternalDataError(
            f"the model's external data {location!r} is missing (tensor {tensor.name!r} needs it); "
            "put the file beside the model"
        )
    offset = int(entries.get("offset", 0))
    present = path.stat().st_size - offset
    length = int(entries.get("length", max(present, 0)))
    if offset < 0 or length < 0 or length > present:
        raise ExternalDataError(
            f"the model's external data {location!r} is cut short: tensor {tensor.name!r} needs "
            f"{length} bytes at {offset}, the file has {path.stat().st_size}"
        )
    return path, offset, length


@contextmanager
def spilling(folder: Path) -> Iterator[None]:
    """Let `spill` put large tensors into `folder`, an absolute path, while the block runs.

    The folder's name must be one that no model can guess, as `tempfile` makes them: only there may
    external data lie outside the model's own folder.
    """
    token = _SPILL.set(folder)
    try:
        yield
    finally:
        _SPILL.reset(token)


def spill(tensor: TensorProto, name: str, value: NDArray[Any]) -> bool:
    """Write a large array to the folder of `spilling` and make `tensor` point there.

    Returns:
        Whether it was: False without such a folder, or for a small array; nothing is changed then.
    """
    folder = _SPILL.get()
    if folder is None or value.nbytes < SPILLED_BYTES:
        return False
    path = folder / str(len(list(folder.iterdir())))
    value.astype(value.dtype.newbyteorder("<"), copy=False).tofile(path)
    tensor.name = name
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor.dims.extend(value.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(path))
    tensor.external_data.add(key="length", value=str(value.nbytes))
    return True


def read_tensor(tensor: TensorProto, folder: Path | None = None) -> NDArray[Any]:
    """Return a tensor's values; an external one is read, and the proto stays as it is.

    Raises:
        ExternalDataError: see `external_range`.
    """
    if not is_external(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    path, offset, length = external_range(tensor, folder)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    count = int(np.prod(tensor.dims, dtype=np.int64))
    if length < count * dtype.itemsize:
        raise ExternalDataError(
            f"tensor {tensor.name!r} of shape {tuple(tensor.dims)} and {dtype} needs "
            f"{count * dtype.itemsize} bytes, its external data has {length}"
        )
    values = np.fromfile(path, dtype=dtype.newbyteorder("<"), count=count, offset=offset)
    return np.asarray(values.reshape(tuple(tensor.dims)))


def inner_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor that is not an initializer of the main graph."""
    yield from _node_tensors(model.graph.node)
    for function in model.functions:
        yield from _node_tensors(function.node)


def _node_tensors(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            elif attribute.type == onnx.AttributeProto.TENSORS:
                yield from attribute.tensors
            for body in attribute_bodies(attribute):
                yield from _body_tensors(body)


def _body_tensors(body: GraphProto) -> Iterator[TensorProto]:
    yield from body.initializer
    yield from _node_tensors(body.node)
