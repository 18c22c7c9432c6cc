"""Conv takes an affine into its weight and bias; before it, only what its padding leaves exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.filters import FilterRule

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node
    from export.rules.base import Step, Want


class ConvRule(FilterRule):
    """Conv of any rank, with groups, strides and dilations."""

    op_types: ClassVar[tuple[str, ...]] = ("Conv",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Scale the filters, and scale and shift the bias."""
        return self._absorb(body, node, want, before=False)

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """Scale what the filters read; the shift meets each filter whole only without padding."""
        if slot != 0:
            raise Blocked(node.name, f"{node.label} reads it as a weight")
        if want.affine.shifts and is_padded(body, node):
            raise Blocked(
                node.name,
                f"{node.label} pads with zeros, where a folded shift would be wrong at the border",
            )
        return self._absorb(body, node, want, before=True)


def is_padded(body: Body, node: Node) -> bool:
    """Whether a filter can read beyond the border of the input."""
    auto_pad = node.attribute("auto_pad", "NOTSET")
    if auto_pad in ("NOTSET", ""):
        return any(node.attribute("pads", ()))
    if auto_pad == "VALID":
        return False
    # SAME pads a kernel of one tap nowhere.
    kernel = (body.shape(node.input(1)) or ())[2:]
    return not kernel or any(size != 1 for size in kernel)
