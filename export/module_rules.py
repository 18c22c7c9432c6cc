"""Rules for calls that PyTorch has and ONNX does not have in this form."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import require_axis
from export.rules.gemm import GemmRule
from export.rules.reshape import ReshapeRule

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node
    from export.rules import Rule, Step, Want


class LinearRule(GemmRule):
    """A Gemm over the last axis, however many axes are in front of it."""

    op_types: ClassVar[tuple[str, ...]] = ("Linear",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """As a Gemm."""
        return super().check_backward(body, node, _as_matrix(body, node, want, node.output))

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """As a Gemm."""
        if slot == 0:
            want = _as_matrix(body, node, want, node.input(0))
        return super().check_forward(body, node, slot, want)


class ViewRule(ReshapeRule):
    """A new shape that leaves the first `leading` axes as they are, even where sizes are free."""

    op_types: ClassVar[tuple[str, ...]] = ("View",)

    def input_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the same axis if that stayed."""
        if want.axis < node.attribute("leading"):
            return replace(want, value=node.input(0))
        return super().input_want(body, node, want)

    def output_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the same axis if that stays."""
        leading = node.attribute("leading")
        if want.axis < leading:
            return replace(want, value=node.output)
        size = _size_read(body, node.output)
        if want.axis == leading == (body.rank(node.output) or 0) - 1 and size:
            # All axes from the channels on are one, as long as its reader needs it to be.
            inner = size // want.affine.channels
            return replace(want, value=node.output, affine=want.affine.spread(inner, outer=1))
        return super().output_want(body, node, want)


def _size_read(body: Body, value: str) -> int | None:
    """Return how long the last axis of a value has to be for a linear layer that reads it."""
    for use in body.uses(value):
        if use.node and use.node.op_type == "Linear" and use.slot == 0:
            weight = body.shape(use.node.input(1))
            return None if weight is None else weight[use.node.attribute("transB")]
    return None


def _as_matrix(body: Body, node: Node, want: Want, value: str) -> Want:
    """Return what is wanted of a value's last axis for axis 1, where a Gemm has its channels."""
    rank = body.rank(value)
    if rank is None:
        raise Blocked(node.name, f"{node.label}: the rank of {value!r} is unknown")
    require_axis(node, want, rank - 1)
    return replace(want, axis=1)


MODULE_RULES: dict[str, Rule] = {
    op_type: rule for rule in (LinearRule(), ViewRule()) for op_type in rule.op_types
}
