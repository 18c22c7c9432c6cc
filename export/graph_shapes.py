"""Shapes and types of every value, inferred without touching the weights' bytes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import shape_inference

from export.node import Node
from export.tensors import is_external

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import FunctionProto, GraphProto, ModelProto, TensorProto

# Inference reads small tensors (targets of Reshape, sizes of Resize) and only the type of others.
SMALL = 1024


@dataclass(frozen=True)
class ValueType:
    """What inference knows of a value.

    Attributes:
        element: a TensorProto.DataType, 0 when unknown.
        shape: sizes, None for a size that is not fixed; None as a whole when even the rank is
            unknown.
    """

    element: int = 0
    shape: tuple[int | None, ...] | None = None


def bodies(model: ModelProto) -> Iterator[tuple[GraphProto | FunctionProto, int | None]]:
    """Yield every body and the position of the one around it; an outer body comes first."""
    found: list[tuple[GraphProto | FunctionProto, int | None]] = [(model.graph, None)]
    found += [(function, None) for function in model.functions]
    position = 0
    while position < len(found):
        body = found[position][0]
        found += [(inner, position) for node in body.node for inner in Node(node).bodies()]
        position += 1
    yield from found


def without_initializers(model: ModelProto) -> ModelProto:
    """Return a copy of the model that lacks the main graph's initializers, and so their size."""
    bare = onnx.ModelProto()
    _copy_fields(model, bare, but="graph")
    _copy_fields(model.graph, bare.graph, but="initializer")
    return bare


def _copy_fields(source: Any, target: Any, but: str) -> None:
    for field, value in source.ListFields():
        if field.name == but:
            continue
        if isinstance(value, (int, float, str, bytes)):
            setattr(target, field.name, value)
        elif hasattr(value, "MergeFrom") and not hasattr(value, "CopyFrom"):
            getattr(target, field.name).MergeFrom(value)  # a repeated field
        else:
            getattr(target, field.name).CopyFrom(value)


def _typed_model(model: ModelProto) -> ModelProto:
    """Return a copy in which large initializers are named and typed, but hold nothing."""
    bare = without_initializers(model)
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims, dtype=np.int64) <= SMALL and not is_external(tensor):
            bare.graph.initializer.append(tensor)
        else:
            bare.graph.value_info.append(_typed(tensor))
    return bare


def _typed(tensor: TensorProto) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def infer_types(model: ModelProto) -> list[dict[str, ValueType]]:
    """Return the types of the values of each body, in the order of `bodies`.

    What cannot be inferred is left out: folding then says what it lacks, and keeps the node.
    """
    return [_types(body) for body, _ in bodies(inferred(model))]


def inferred(model: ModelProto) -> ModelProto:
    """Return a copy without large initializers that says of each value what inference finds out."""
    bare = _typed_model(model)
    # Where inference fails, the types written into the model are still there.
    with contextlib.suppress(RuntimeError, ValueError, shape_inference.InferenceError):
        bare = shape_inference.infer_shapes(bare, data_prop=True)
    return bare


def _types(body: GraphProto | FunctionProto) -> dict[str, ValueType]:
    types: dict[str, ValueType] = {}
    if isinstance(body, onnx.GraphProto):
        infos = [*body.value_info, *body.input, *body.output]
        for tensor in body.initializer:
            types[tensor.name] = ValueType(tensor.data_type, tuple(tensor.dims))
    else:
        infos = list(body.value_info)
    for info in infos:
        if info.type.HasField("tensor_type"):
            types[info.name] = _type(info.type.tensor_type)
    return types


def _type(tensor_type: onnx.TypeProto.Tensor) -> ValueType:
    if not tensor_type.HasField("shape"):
        return ValueType(tensor_type.elem_type)
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else None for dim in tensor_type.shape.dim
    )
    return ValueType(tensor_type.elem_type, shape)
