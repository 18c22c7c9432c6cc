"""Pad with values of the picture itself keeps an affine; pad with zeros keeps a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import ChannelKeeper, Want

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class PadRule(ChannelKeeper):
    """Pad by reflection, by the edge's values, wrapped around, or with zeros."""

    op_types: ClassVar[tuple[str, ...]] = ("Pad",)

    def check(self, body: Body, node: Node, want: Want) -> None:
        """Raise Blocked when foreign values come in that the affine would have met."""
        constant = node.attribute("mode", "constant") == "constant"
        if constant and (want.affine.shifts or _pads_with_more_than_zeros(body, node)):
            raise Blocked(node.name, f"{node.label} pads with a constant, which a shift misses")
        if not want.affine.is_uniform and not _leaves_axis(body, node, want.axis):
            raise Blocked(node.name, f"{node.label} is not known to leave axis {want.axis} alone")


def _pads_with_more_than_zeros(body: Body, node: Node) -> bool:
    if not node.input(2):
        return bool(node.attribute("value", 0.0))
    value = body.constant(node.input(2))
    return value is None or bool(value.any())


def _leaves_axis(body: Body, node: Node, axis: int) -> bool:
    """Whether nothing is padded along `axis`: begins of all axes come first, then the ends."""
    pads = body.constant(node.input(1)) if node.input(1) else node.attribute("pads")
    if pads is None:
        return False
    count = len(pads) // 2
    padded = body.constant(node.input(3)) if node.input(3) else range(count)  # axes: opset 18
    rank = body.rank(node.input(0))
    if padded is None or rank is None:
        return False
    return not any(
        pads[place] or pads[place + count]
        for place, padded_axis in enumerate(padded)
        if padded_axis % rank == axis
    )
