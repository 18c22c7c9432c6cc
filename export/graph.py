"""An index over one ONNX body: a graph, a branch of control flow or a local function."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx

from export.node import Node, attribute_bodies

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import FunctionProto, GraphProto, NodeProto


@dataclass(frozen=True)
class Use:
    """One place that reads a value.

    Attributes:
        node: the reader; None when the value is an output of the body.
        slot: the reader's input; -1 when a body inside the reader reads it.
    """

    node: Node | None
    slot: int

    @property
    def label(self) -> str:
        """The reader, for a sentence."""
        return self.node.label if self.node else "an output of the graph"


class Graph:
    """Who makes and who reads each value of one body, kept right while the body is edited."""

    def __init__(self, proto: GraphProto | FunctionProto) -> None:
        self.proto = proto
        self.reindex()

    def reindex(self) -> None:
        """Read the body anew."""
        self.nodes = [Node(proto) for proto in self.proto.node]
        self._producers: dict[str, Node] = {}
        self._uses: dict[str, list[Use]] = defaultdict(list)
        for node in self.nodes:
            self._note(node)
        for slot, output in enumerate(self.output_names):
            self._uses[output].append(Use(None, slot))

    def _note(self, node: Node) -> None:
        """Enter what `node` makes and reads."""
        for output in filter(None, node.outputs):
            self._producers[output] = node
        for slot, value in enumerate(node.inputs):
            if value:
                self._uses[value].append(Use(node, slot))
        for body in node.bodies():
            for value in _values_read(body):
                self._uses[value].append(Use(node, -1))

    @property
    def is_function(self) -> bool:
        """Whether the body is a local function, which has no initializers."""
        return isinstance(self.proto, onnx.FunctionProto)

    @property
    def input_names(self) -> list[str]:
        """Names of the body's inputs."""
        return _names(self.proto.input)

    @property
    def output_names(self) -> list[str]:
        """Names of the body's outputs."""
        return _names(self.proto.output)

    def producer(self, value: str) -> Node | None:
        """Return the node that makes `value`; None for inputs, initializers and outer values."""
        return self._producers.get(value)

    def uses(self, value: str) -> list[Use]:
        """Return every place that reads `value`."""
        return list(self._uses.get(value, ()))

    def only_reader(self, value: str) -> Node | None:
        """Return the node that alone reads `value`, once; None where it is an output, too."""
        uses = self._uses.get(value, ())
        return uses[0].node if len(uses) == 1 else None

    def spare_outputs_used(self, node: Node) -> list[str]:
        """Return the outputs after the first that something reads."""
        return [output for output in node.outputs[1:] if output and self._uses.get(output)]

    def set_input(self, node: Node, slot: int, value: str) -> None:
        """Make `node` read `value` at `slot`."""
        before = node.input(slot)
        if before:
            self._uses[before] = [u for u in self._uses[before] if u != Use(node, slot)]
        node.set_input(slot, value)
        self._uses[value].append(Use(node, slot))

    def can_bypass(self, node: Node, slot: int = 0) -> bool:
        """Whether `bypass` can take `node` out."""
        source, result = node.input(slot), node.output
        if self.producer(source) and len(self.uses(source)) == 1:
            return True
        return all(use.node is not None and use.slot >= 0 for use in self.uses(result))

    def bypass(self, node: Node, slot: int = 0) -> None:
        """Take out `node`: what read its first output reads its input `slot` instead.

        Where nothing else reads that input, its producer takes over the output's name, so that
        names that a person or another body knows stay.
        """
        source, result = node.input(slot), node.output
        producer = self.producer(source)
        alone = len(self.uses(source)) == 1
        self.remove(node)
        if producer is not None and alone:
            self.rename_output(source, result)
        else:
            self.redirect(result, source)

    def become(self, node: Node, op_type: str, inputs: list[str]) -> None:
        """Turn `node` into an operator without attributes that makes its first output alone."""
        self._forget_uses(node)
        proto = node.proto
        proto.op_type = op_type
        del proto.input[:], proto.attribute[:]
        for output in proto.output[1:]:
            self._producers.pop(output, None)
        del proto.output[1:]
        for slot, value in enumerate(inputs):
            self.set_input(node, slot, value)

    def insert(self, proto: NodeProto, before: Node | None = None) -> Node:
        """Add a node in front of `before`, by default behind all others; return it."""
        place = next((i for i, other in enumerate(self.nodes) if other is before), len(self.nodes))
        self.proto.node.insert(place, proto)
        node = Node(self.proto.node[place])
        self.nodes.insert(place, node)
        self._note(node)
        return node

    def rename_output(self, value: str, name: str) -> None:
        """Let the node that makes `value` make it as `name`; what reads `value` reads it still."""
        node = self._producers.pop(value)
        node.proto.output[node.outputs.index(value)] = name
        self._producers[name] = node

    def redirect(self, value: str, name: str, but: Collection[Node] = ()) -> None:
        """Let each node that reads `value` read `name`; no body inside a node may read it."""
        for use in self.uses(value):
            if use.node is not None and use.node not in but:
                self.set_input(use.node, use.slot, name)

    def remove(self, node: Node) -> None:
        """Take out `node`; its outputs then have no producer."""
        self._forget_uses(node)
        for output in node.outputs:
            self._producers.pop(output, None)
        position = next(i for i, other in enumerate(self.nodes) if other is node)
        del self.nodes[position]
        del self.proto.node[position]

    def __contains__(self, node: Node) -> bool:
        return any(self._producers.get(output) is node for output in node.outputs if output)

    def remove_unread(self) -> list[Node]:
        """Take out every node that nothing reads, last first, and return them."""
        removed = []
        for node in reversed(list(self.nodes)):
            if node.outputs and not any(self._uses.get(output) for output in node.outputs):
                self.remove(node)
                removed.append(node)
        return removed

    def _forget_uses(self, node: Node) -> None:
        read = {value for body in node.bodies() for value in _values_read(body)}
        for value in read.union(node.inputs) - {""}:
            self._uses[value] = [use for use in self._uses[value] if use.node is not node]


def _names(entries: Any) -> list[str]:
    """Return names of a graph's ValueInfoProtos or a function's plain texts."""
    return [entry if isinstance(entry, str) else entry.name for entry in entries]


def _values_read(body: GraphProto) -> set[str]:
    """Return every name that a body reads, bodies inside it included; its own values do no harm."""
    read = {output.name for output in body.output}
    for node in body.node:
        read.update(node.input)
        for attribute in node.attribute:
            for inner in attribute_bodies(attribute):
                read |= _values_read(inner)
    read.discard("")
    return read
