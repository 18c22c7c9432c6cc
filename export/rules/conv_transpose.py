"""ConvTranspose takes an affine into its weight and bias; before it, hardly ever a shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from export.graph import Blocked
from export.rules.base import Rule, Step, Want, float_constant, require_axis
from export.rules.linear import absorb, stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.graph import Node
    from export.graph_body import Body


class ConvTransposeRule(Rule):
    """ConvTranspose of any rank, with groups."""

    op_types: ClassVar[tuple[str, ...]] = ("ConvTranspose",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Scale the filters, and scale and shift the bias, which reaches every output alike."""
        return self._absorb(body, node, want, before=False)

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """Scale what the filters read; a shift would spread unevenly unless each has one tap."""
        if slot != 0:
            raise Blocked(node.name, f"{node.label} reads it as a weight")
        if want.affine.shifts and not _is_pointwise(body, node):
            raise Blocked(
                node.name, f"{node.label} gives outputs unequal numbers of taps, so unequal shifts"
            )
        return self._absorb(body, node, want, before=True)

    def _absorb(self, body: Body, node: Node, want: Want, *, before: bool) -> Step:
        require_axis(node, want, 1)
        weight = float_constant(body, node, 1, "weight")
        bias = float_constant(body, node, 2, "bias") if node.input(2) else None
        filters = canonical(weight, node.attribute("group", 1))
        folded, shifted = absorb(node, filters, want.affine, bias=bias, before=before)
        constants = {1: folded.swapaxes(1, 2).reshape(weight.shape)}
        if bias is not None or shifted.any():
            constants[2] = stored(node, shifted, weight.dtype)
        return Step(self, node, constants)


def canonical(weight: NDArray[Any], groups: int) -> NDArray[Any]:
    """Return the weight (inputs, outputs per group, *kernel) in the algebra's layout."""
    inputs, outputs = weight.shape[:2]
    return weight.reshape(groups, inputs // groups, outputs, -1).swapaxes(1, 2)


def _is_pointwise(body: Body, node: Node) -> bool:
    """Whether each output comes from exactly one input: one tap, stride 1, nothing added or cut."""
    kernel = (body.shape(node.input(1)) or ())[2:]
    return (
        bool(kernel)
        and all(size == 1 for size in kernel)
        and all(stride == 1 for stride in node.attribute("strides", ()))
        and not any(node.attribute("pads", ()))
        and not any(node.attribute("output_padding", ()))
        and not node.attribute("output_shape", ())
    )
