"""One ONNX node, and what a check says when it is in the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import AttributeProto, GraphProto, NodeProto

DEFAULT_DOMAINS = ("", "ai.onnx")


class Blocked(Exception):  # noqa: N818 - no error: the answer "this cannot fold", with its reason
    """A check's negative answer.

    Attributes:
        blocker: the name of the node in the way; "" when no node is.
        reason: one sentence.
        shift_only: the scale alone would have been taken.
    """

    def __init__(self, blocker: str, reason: str, *, shift_only: bool = False) -> None:
        super().__init__(reason)
        self.blocker = blocker
        self.reason = reason
        self.shift_only = shift_only


class Node:
    """One node of a body; compares by identity, as two nodes may read alike."""

    def __init__(self, proto: NodeProto) -> None:
        self.proto = proto

    @property
    def op_type(self) -> str:
        """The operator; one outside ONNX's own domain carries its domain: "com.microsoft::Gelu"."""
        if self.proto.domain in DEFAULT_DOMAINS:
            return str(self.proto.op_type)
        return f"{self.proto.domain}::{self.proto.op_type}"

    @property
    def name(self) -> str:
        """The node's name, or its first output's where it has none."""
        return str(self.proto.name or (self.proto.output[0] if self.proto.output else ""))

    @property
    def label(self) -> str:
        """Name and operator, for a sentence."""
        return f"{self.name} ({self.op_type})"

    @property
    def inputs(self) -> list[str]:
        """Names of the values read; "" for one left out."""
        return list(self.proto.input)

    @property
    def outputs(self) -> list[str]:
        """Names of the values made; "" for one left out."""
        return list(self.proto.output)

    @property
    def output(self) -> str:
        """Name of the first output."""
        return str(self.proto.output[0])

    def input(self, slot: int) -> str:
        """Return the name of the value read at `slot`, "" when there is none."""
        return str(self.proto.input[slot]) if slot < len(self.proto.input) else ""

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value, texts as str.

        Raises:
            Blocked: the value is a parameter of the enclosing function.
        """
        for attribute in self.proto.attribute:
            if attribute.name != name:
                continue
            if attribute.ref_attr_name:
                raise Blocked(
                    self.name, f"{self.label} takes {name!r} from the caller of its function"
                )
            value = onnx.helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
        return default

    def set_attribute(self, name: str, value: Any) -> None:
        """Replace an attribute, or add it."""
        self.drop_attributes(name)
        self.proto.attribute.append(onnx.helper.make_attribute(name, value))

    def drop_attributes(self, *names: str) -> None:
        """Remove attributes; those that are not there do not matter."""
        kept = [entry for entry in self.proto.attribute if entry.name not in names]
        del self.proto.attribute[:]
        self.proto.attribute.extend(kept)

    def set_input(self, slot: int, value: str) -> None:
        """Read `value` at `slot`, leaving out the slots before it that were not there."""
        while len(self.proto.input) <= slot:
            self.proto.input.append("")
        self.proto.input[slot] = value

    def bodies(self) -> Iterator[GraphProto]:
        """Yield the graphs that the node carries: branches of If, bodies of Loop and Scan."""
        for attribute in self.proto.attribute:
            yield from attribute_bodies(attribute)


def attribute_bodies(attribute: AttributeProto) -> Iterator[GraphProto]:
    """Yield the graphs inside one attribute."""
    if attribute.type == onnx.AttributeProto.GRAPH:
        yield attribute.g
    elif attribute.type == onnx.AttributeProto.GRAPHS:
        yield from attribute.graphs
