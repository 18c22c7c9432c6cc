"""Layers of an int8 model that stay in float because the user says so.

onnxruntime quantises by itself a float convolution or addition that stands between a
DequantizeLinear and a QuantizeLinear (its WeightBiasQuantization pass and its selectors). A
LeakyRelu of slope 1, which changes nothing and is fused into the convolution, keeps the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from export.graph import Graph
from flatfold.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from export.node import Node

KEEPABLE = {"Conv", "Gemm", "MatMul", "Add"}  # what the audit would otherwise want in integers
LAYOUT_SUFFIX = "_nchwc"  # onnxruntime's mark on the values of its blocked float convolutions


def check_names(model: onnx.ModelProto, names: Collection[str]) -> None:
    """Make sure that every name is a layer that can stay in float.

    Raises:
        UsageError: one is not; lists those that are, as `flatfold inspect` shows them.
    """
    candidates = [node.name for node in model.graph.node if node.op_type in KEEPABLE]
    unknown = [name for name in names if name not in candidates]
    if unknown:
        raise UsageError(
            f"--keep-float: no layer {', '.join(unknown)} that int8 would change; "
            f"the model has {', '.join(candidates) or 'none'} (see `flatfold inspect`)"
        )


def shield(graph: Graph, node: Node) -> None:
    """Put a LeakyRelu of slope 1 between a kept node and all that reads it."""
    value, kept = node.output, f"{node.output}.kept"
    graph.rename_output(value, kept)
    graph.insert(helper.make_node("LeakyRelu", [kept], [value], kept, alpha=1.0))


def runtime_names(model: onnx.ModelProto, name: str) -> set[str]:
    """Return the names that node `name` can have in the graph that onnxruntime runs.

    There it may have its own name, or none and the output of the activation fused into it.
    """
    graph = Graph(model.graph)
    value = next(node.output for node in graph.nodes if node.name == name)
    found = {name, value}
    while (reader := graph.only_reader(value)) and reader.op_type in {"Relu", "LeakyRelu"}:
        value = reader.output
        found.add(value)
    return found | {f"{entry}{LAYOUT_SUFFIX}" for entry in found}
