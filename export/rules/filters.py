"""What Conv and ConvTranspose share: filters and a bias that take an affine in."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.rules.base import Rule, Step, Want, float_constant, require_axis
from export.rules.linear import absorb, stored

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class FilterRule(Rule):
    """A convolution of one kind or the other; which affines it takes, it says itself.

    Attributes:
        inputs_first: the weight is (inputs, outputs per group, *kernel) in place of (outputs,
            inputs per group, *kernel).
    """

    inputs_first: ClassVar[bool] = False

    def _absorb(self, body: Body, node: Node, want: Want, *, before: bool) -> Step:
        require_axis(node, want, 1)
        weight = float_constant(body, node, 1, "weight")
        bias = float_constant(body, node, 2, "bias") if node.input(2) else None
        groups = node.attribute("group", 1)
        filters = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
        if self.inputs_first:  # the algebra has the outputs first
            filters = filters.swapaxes(1, 2)
        folded, shifted = absorb(node, filters, want.affine, bias=bias, before=before)
        if self.inputs_first:
            folded = folded.swapaxes(1, 2)
        constants = {1: folded.reshape(weight.shape)}
        if bias is not None or shifted.any():
            constants[2] = stored(node, shifted, weight.dtype)
        return Step(self, node, constants)
