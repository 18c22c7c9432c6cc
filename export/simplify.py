"""Replace what torch's exporter writes in a roundabout way by the plain operator, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from export.node import Node
from export.parameters import Constants, consumers, producer, remove_dead

if TYPE_CHECKING:
    import onnx

_GLOBAL_POOLS = {"ReduceMax": "GlobalMaxPool", "ReduceMean": "GlobalAveragePool"}
SPATIAL = (2, 3)


def simplify(model: onnx.ModelProto) -> None:
    """Rewrite, in place, reshapes to a computed shape and reductions over the whole picture.

    Needs the value shapes that torch's exporter writes into `value_info`.
    """
    graph = model.graph
    shapes = _shapes(graph)
    for index, node in enumerate(list(graph.node)):
        plain = None
        if node.op_type == "Reshape":
            plain = _static_reshape(graph, node, shapes)
        elif node.op_type in _GLOBAL_POOLS:
            plain = _global_pool(graph, node, shapes)
        if plain is not None:
            graph.node[index].CopyFrom(plain)
    remove_dead(graph)


def relu_before_pool(model: onnx.ModelProto) -> None:
    """Turn MaxPool -> Relu into Relu -> MaxPool, in place: the larger of two survives either way.

    A ReLU right behind its convolution costs nothing, and an 8-bit activation behind it needs no
    codes for negative values.
    """
    graph = model.graph
    for pool in graph.node:
        readers = consumers(graph, pool.output[0])
        if pool.op_type != "MaxPool" or len(pool.output) > 1 or len(readers) != 1:
            continue
        relu = readers[0]
        if relu.op_type == "Relu":
            pooled = helper.make_node("MaxPool", list(pool.output), list(relu.output))
            pooled.attribute.extend(pool.attribute)
            plain = helper.make_node("Relu", [pool.input[0]], list(pool.output))
            pool.CopyFrom(plain)
            relu.CopyFrom(pooled)


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


def _shapes(graph: onnx.GraphProto) -> dict[str, list[int | None]]:
    """Return the known shapes; None stands for a dynamic dimension."""
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _static_reshape(
    graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, list[int | None]]
) -> onnx.NodeProto | None:
    """(batch, ...) -> (batch, n) is Flatten; with a single free size the shape is a constant."""
    constants = Constants(graph)
    before, after = shapes.get(node.input[0]), shapes.get(node.output[0])
    if node.input[1] in constants or after is None or after.count(None) > 1:
        return None
    if before and len(before) > 2 and len(after) == 2:
        rest = before[1:]
        if before[0] == after[0] and None not in rest and np.prod(rest) == after[1]:  # type: ignore[arg-type]
            return helper.make_node("Flatten", [node.input[0]], list(node.output), axis=1)
    target = constants.add(
        f"{node.output[0]}.shape",
        np.array([-1 if size is None else size for size in after], np.int64),
    )
    return helper.make_node("Reshape", [node.input[0], target], list(node.output))


def _global_pool(
    graph: onnx.GraphProto, node: onnx.NodeProto, shapes: dict[str, list[int | None]]
) -> onnx.NodeProto | None:
    """A reduction of (batch, channels, height, width) over both spatial axes, both kept."""
    before = shapes.get(node.input[0])
    read = Node(node).attribute
    axes = read("axes")
    if axes is None and len(node.input) > 1:
        axes = Constants(graph).get(node.input[1])
    if before is None or len(before) != 4 or axes is None or read("keepdims", 1) != 1:
        return None
    if sorted(int(axis) % 4 for axis in np.atleast_1d(axes)) != list(SPATIAL):
        return None
    return helper.make_node(_GLOBAL_POOLS[node.op_type], [node.input[0]], list(node.output))


def scale_output(model: onnx.ModelProto, name: str, factor: float) -> bool:
    """Multiply the value `name` by `factor` inside the linear layer that makes it, in place.

    Constant factors on the way (`logits * 0.1`, `logits / 9`) go into the layer as well. Weights
    and bias are scaled in float64.

    Returns:
        Whether there was such a layer; if not, nothing but the constant factors changed.
    """
    graph = model.graph
    constants = Constants(graph)
    path = []
    value = name
    while (node := producer(graph, value)) is not None and len(
        consumers(graph, node.output[0])
    ) <= 1:
        scalar = _scalar(node, constants)
        if scalar is None:
            break
        path.append(node)
        factor *= scalar
        value = node.input[0] if node.input[0] not in constants else node.input[1]
    layer = producer(graph, value)
    if layer is None or layer.op_type not in {"Gemm", "Conv"} or len(consumers(graph, value)) > 1:
        return False
    for index in (1, 2):
        tensor = constants.get(layer.input[index]) if index < len(layer.input) else None
        if tensor is None and index < len(layer.input) and layer.input[index]:
            return False
    for index in (1, 2):
        if index < len(layer.input) and layer.input[index]:
            tensor = constants.get(layer.input[index])
            assert tensor is not None  # noqa: S101  the loop above has looked
            constants.replace(
                layer, index, (tensor.astype(np.float64) * factor).astype(tensor.dtype)
            )
    layer.output[0] = name
    for node in path:
        graph.node.remove(node)
    remove_dead(graph)
    return True


def _scalar(node: onnx.NodeProto, constants: Constants) -> float | None:
    """Return the factor of a Mul or Div by one constant number, else None."""
    if node.op_type not in {"Mul", "Div"}:
        return None
    left, right = (constants.get(value) for value in node.input)
    if right is not None and right.size == 1:
        number = float(right.reshape(()))
        return number if node.op_type == "Mul" else 1 / number
    if left is not None and left.size == 1 and node.op_type == "Mul":
        return float(left.reshape(()))
    return None
