"""Average pooling commutes with an affine as long as no padding counts as a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import ChannelKeeper, Want, require_axis

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class AveragePoolRule(ChannelKeeper):
    """AveragePool and GlobalAveragePool."""

    op_types: ClassVar[tuple[str, ...]] = ("AveragePool", "GlobalAveragePool")

    def check(self, body: Body, node: Node, want: Want) -> None:  # noqa: ARG002 - no shape matters
        """Raise Blocked when there is a shift and padded zeros are averaged in."""
        require_axis(node, want, 1)
        if want.affine.shifts and _counts_padding(node):
            raise Blocked(
                node.name,
                f"{node.label} averages padded zeros in (count_include_pad=1), "
                "which a shift before it would not reach",
            )


def _counts_padding(node: Node) -> bool:
    if not node.attribute("count_include_pad", 0):
        return False
    pads = any(node.attribute("pads", ()))
    automatic = node.attribute("auto_pad", "NOTSET") not in ("NOTSET", "", "VALID")
    # With ceil_mode, a last window may hang over the border.
    return pads or automatic or bool(node.attribute("ceil_mode", 0))
