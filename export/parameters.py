"""Read and write the constant tensors of a graph by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Constants:
    """The constants of one graph: its initializers and its Constant nodes' values.

    A value may be shared by several nodes: `replace` therefore gives one node's input a new
    tensor and leaves the old one to its other users.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._values = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._values[node.output[0]] = node.attribute[0].t

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> NDArray[Any] | None:
        """Return the value of `name`, or None where it is not a constant."""
        tensor = self._values.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def add(self, name: str, value: NDArray[Any]) -> str:
        """Add an initializer under `name`, or under the next free name like it; return the name."""
        free = next(option for option in _names(name) if option not in self._values)
        tensor = numpy_helper.from_array(np.asarray(value, order="C"), free)
        self.graph.initializer.append(tensor)
        self._values[free] = self.graph.initializer[-1]
        return free

    def replace(self, node: onnx.NodeProto, index: int, value: NDArray[Any]) -> None:
        """Give `node` its own new constant as input `index`, appending empty inputs as needed."""
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = self.add(node.input[index] or f"{node.output[0]}.{index}", value)


def _names(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        yield f"{name}.{number}"
        number += 1


def consumers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """Return the nodes that read `name`, each once."""
    return [node for node in graph.node if name in node.input]


def producer(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    """Return the node that writes `name`, or None for inputs and initializers."""
    return next((node for node in graph.node if name in node.output), None)


def remove_dead(graph: onnx.GraphProto) -> None:
    """Remove, in place, nodes that lead to no output, and tensors that no node reads."""
    wanted = {output.name for output in graph.output}
    live = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            live.append(node)
            wanted |= set(node.input)
    live.reverse()
    del graph.node[:]
    graph.node.extend(live)
    for field in (graph.initializer, graph.value_info):
        kept = [entry for entry in field if entry.name in wanted]
        del field[:]
        field.extend(kept)
