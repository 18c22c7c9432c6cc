"""Concat hands each input its slice of the affine."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import Rule, Step, Want

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class ConcatRule(Rule):
    """Backward only: forward, the other inputs would be changed, too."""

    op_types: ClassVar[tuple[str, ...]] = ("Concat",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Slice the affine where the inputs are joined along the channels, else copy it."""
        rank = body.rank(node.output)
        if rank is None and not want.affine.is_uniform:
            raise Blocked(node.name, f"{node.label}: the rank of its output is unknown")
        along = node.attribute("axis") % rank if rank else 0
        if want.affine.is_uniform or along != want.axis:
            wants = [Want(value, want.axis, want.affine) for value in node.inputs]
            return Step(self, node, wants=tuple(wants))
        wants, start = [], 0
        for value in node.inputs:
            size = body.size(value, along)
            if size is None:
                raise Blocked(node.name, f"{node.label}: {value!r} has no known channel count")
            wants.append(Want(value, along, want.affine.part(start, start + size)))
            start += size
        if start != want.affine.channels:
            raise Blocked(node.name, f"{node.label} joins {start} channels, the affine has others")
        return Step(self, node, wants=tuple(wants))
