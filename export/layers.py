"""A model's layers as a table: output size, parameters, multiplications."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.graph_shapes import inferred
from export.node import Node

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

UNKNOWN = -1


@dataclass(frozen=True)
class Layer:
    """One node.

    Attributes:
        name: the node's name.
        operator: its type, with the domain where it is not ONNX's own.
        output: shape of its first output without the batch axis; -1 where unknown.
        parameters: numbers in the constants that it reads.
        macs: multiply-adds for one row of the batch; 0 where it has none or they are unknown.
    """

    name: str
    operator: str
    output: tuple[int, ...]
    parameters: int
    macs: int


def layers(model: onnx.ModelProto) -> list[Layer]:
    """Return the main graph's nodes; weights behind a DequantizeLinear count at their reader.

    Args:
        model: any; external data may still be in its files.
    """
    graph = inferred(model).graph
    shapes = {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else UNKNOWN
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            sizes[node.output[0]] = tuple(node.attribute[0].t.dims)
        if node.op_type == "DequantizeLinear" and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    return [
        _layer(node, shapes, sizes)
        for node in graph.node
        if _value(node) not in sizes and node.op_type != "Constant"
    ]


def _layer(
    node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], sizes: dict[str, tuple[int, ...]]
) -> Layer:
    output = shapes.get(_value(node), ())[1:]
    constants = [sizes[name] for name in node.input if name in sizes]
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    parameters = sum(math.prod(size) for size in constants)
    return Layer(node.name, operator, output, parameters, _macs(node, output, sizes))


def _value(node: onnx.NodeProto) -> str:
    """Return the name of the first output, "" for a custom operator that has none."""
    return node.output[0] if node.output else ""


def _macs(node: onnx.NodeProto, output: Sequence[int], sizes: dict[str, tuple[int, ...]]) -> int:
    weight = sizes.get(node.input[1]) if len(node.input) > 1 else None
    if weight is None or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    if node.op_type == "Conv":
        return math.prod(weight) * math.prod(output[1:]) if UNKNOWN not in output[1:] else 0
    rows = math.prod(output[:-1]) if UNKNOWN not in output[:-1] else 0
    if node.op_type == "Gemm" and Node(node).attribute("transA", 0):
        return 0
    return math.prod(weight) * rows
