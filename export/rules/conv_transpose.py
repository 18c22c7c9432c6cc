"""ConvTranspose takes an affine into its weight and bias; before it, hardly ever a shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.filters import FilterRule

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node
    from export.rules.base import Step, Want


class ConvTransposeRule(FilterRule):
    """ConvTranspose of any rank, with groups."""

    op_types: ClassVar[tuple[str, ...]] = ("ConvTranspose",)
    inputs_first: ClassVar[bool] = True

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
