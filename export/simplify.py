"""Replace what torch's exporter writes in a roundabout way by the plain operator, exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from export.graph import Graph
from export.graph_body import Body, open_bodies

if TYPE_CHECKING:
    import onnx

    from export.node import Node


def simplify(model: onnx.ModelProto) -> None:
    """Turn, in place, reshapes of (batch, ...) to (batch, n) into Flatten; unread nodes go.

    torch's exporter computes their target from the batch, which is free.
    """
    body = open_bodies(model)[0]
    for node in body.nodes:
        if node.op_type == "Reshape" and _flattens(body, node):
            body.become(node, "Flatten", [node.input(0)])
            node.set_attribute("axis", 1)
    body.tidy()


def _flattens(body: Body, node: Node) -> bool:
    before, after = body.shape(node.input(0)), body.shape(node.output)
    if before is None or after is None or len(after) != 2 or None in before[1:]:
        return False
    return after[1] == math.prod(size for size in before[1:] if size is not None)


def relu_before_pool(model: onnx.ModelProto) -> None:
    """Turn MaxPool -> Relu into Relu -> MaxPool, in place: the larger of two survives either way.

    A ReLU right behind its convolution costs nothing, and an 8-bit activation behind it needs no
    codes for negative values.
    """
    graph = Graph(model.graph)
    for pool in graph.nodes:
        relu = graph.only_reader(pool.output)
        if pool.op_type == "MaxPool" and len(pool.outputs) == 1 and relu and relu.op_type == "Relu":
            relu.proto.op_type, pool.proto.op_type = "MaxPool", "Relu"
            relu.proto.attribute.extend(pool.proto.attribute)
            del pool.proto.attribute[:]


def rename(model: onnx.ModelProto) -> None:
    """Name, in place, every node after its operator and number, and values after their node.

    The order of the nodes alone decides the names, so that the same graph gives the same bytes.
    Inputs and outputs of the graph keep their names.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    names: dict[str, str] = {}
    ordered = []
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type.lower()}_{number}"
        for index, value in enumerate(node.input):
            if value in tensors and value not in names:
                names[value] = f"{node.name}.{_role(node, index)}"
                ordered.append(value)
        for index, value in enumerate(node.output):
            if value and value not in kept:
                names[value] = node.name if index == 0 else f"{node.name}.{index}"
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    initializers = []
    for old in ordered:
        tensors[old].name = names[old]
        initializers.append(tensors[old])
    copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in initializers]
    del graph.initializer[:]
    graph.initializer.extend(copies)
    del graph.value_info[:]


def _role(node: onnx.NodeProto, index: int) -> str:
    """Return a readable name for input `index` of `node`."""
    if node.op_type in {"Conv", "Gemm", "MatMul"}:
        return ("input", "weight", "bias")[index]
    return f"input{index}"
