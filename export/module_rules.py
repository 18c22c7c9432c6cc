"""Rules for calls that PyTorch has and ONNX does not have in this form."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from export.graph import Blocked
from export.rules.base import require_axis
from export.rules.gemm import GemmRule
from export.rules.reshape import ReshapeRule

if TYPE_CHECKING:
    from export.graph import Node
    from export.graph_body import Body
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
        if want.axis < node.attribute("leading"):
            return replace(want, value=node.output)
        return super().output_want(body, node, want)


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
