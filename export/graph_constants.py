"""Computing at fold time what a model computes from constants alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from export.tensors import read_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from export.graph_body import Body
    from export.node import Node

# A value with more elements is left for the run time: expanding it would only bloat the file.
MAX_ELEMENTS = 1 << 26

# Quantised weights stay quantised; random ones are different each time.
_LEFT_ALONE = frozenset(
    (
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
        "Dropout",
    )
)


def can_evaluate(node: Node) -> bool:
    """Whether the node is an ONNX operator that gives the same each time and carries no body."""
    return (
        "::" not in node.op_type
        and node.op_type not in _LEFT_ALONE
        and next(node.bodies(), None) is None
        and not any(attribute.ref_attr_name for attribute in node.proto.attribute)
        and onnx.defs.has(node.op_type)
    )


def why_unknown(body: Body, value: str) -> str:
    """Return why a value has no constant that folding reads, for a sentence."""
    sparse = () if body.is_function else body.proto.sparse_initializer
    if any(tensor.values.name == value for tensor in sparse):
        return "stored as a sparse tensor, which folding leaves as it is"
    if value in body.input_names and body.is_stored(value):
        return "only a default, for it is an input of the graph, too: take it out of the inputs"
    producer = body.producer(value)
    if _is_quantised_constant(body, producer):
        return "quantised, and stays so: fold the model first and quantise it then"
    origin = f"computed by {producer.label}, " if producer else ""
    return f"{origin}known only at run time"


def _is_quantised_constant(body: Body, producer: Node | None) -> bool:
    """Whether only quantisation, done or simulated, stands between a value and a constant."""
    while producer is not None and producer.op_type in ("QuantizeLinear", "DequantizeLinear"):
        if body.constant(producer.input(0)) is not None:
            return True
        producer = body.producer(producer.input(0))
    return False


def constant_node_value(node: Node, folder: Path | None) -> NDArray[Any] | None:
    """Return the value of a Constant node; None for texts, sparse tensors and parameters."""
    for attribute in node.proto.attribute:
        if attribute.ref_attr_name:  # known to the caller of the function
            return None
        if attribute.name == "value":
            return read_tensor(attribute.t, folder)
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(onnx.helper.get_attribute_value(attribute), np.float32)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(onnx.helper.get_attribute_value(attribute), np.int64)
    return None


def evaluate(
    node: Node, slot: int, inputs: Mapping[str, NDArray[Any]], opset: int
) -> NDArray[Any] | None:
    """Return output `slot` of one node from constant inputs, or None where that fails.

    onnx's own reference implementation does it, so any operator in any opset is understood.
    """
    if node.op_type == "Identity":
        return inputs[node.input(0)]
    # Imported late: it loads every operator, which takes longer than most folds.
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415

    graph = onnx.helper.make_graph(
        [node.proto],
        "constant",
        [_value_info(name, value) for name, value in inputs.items()],
        [onnx.helper.make_empty_tensor_value_info(node.outputs[slot])],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=imports)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(ReferenceEvaluator(model).run(None, dict(inputs))[0])
    except Exception:  # noqa: BLE001 - whatever it cannot compute stays in the model, to be run
        return None


def _value_info(name: str, value: NDArray[Any]) -> onnx.ValueInfoProto:
    element = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(name, element, list(value.shape))


def fill_tensor(tensor: onnx.TensorProto, name: str, value: NDArray[Any]) -> None:
    """Give an empty TensorProto a name and an array's values, without a copy besides the bytes."""
    tensor.name = name
    tensor.data_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    tensor.dims.extend(value.shape)
    little_endian = value.astype(value.dtype.newbyteorder("<"), copy=False)
    tensor.raw_data = little_endian.tobytes()
