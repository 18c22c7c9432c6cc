"""Max pooling commutes with an affine whose scales are all >= 0: the maximum is monotone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import ChannelKeeper, Want, require_axis

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class MaxPoolRule(ChannelKeeper):
    """MaxPool, whose padding is minus infinity, and GlobalMaxPool."""

    op_types: ClassVar[tuple[str, ...]] = ("MaxPool", "GlobalMaxPool")

    def check(self, body: Body, node: Node, want: Want) -> None:  # noqa: ARG002 - no shape matters
        """Raise Blocked when a scale is negative; says how many."""
        require_axis(node, want, 1)
        require_monotone(node, want)


def require_monotone(node: Node, want: Want) -> None:
    """Raise Blocked when the affine turns the order of a channel's values around."""
    negative = int((want.affine.scale < 0).sum())
    if negative:
        raise Blocked(
            node.name,
            f"{node.label} picks maxima, and {negative} of {want.affine.channels} channels have a "
            "negative scale, which would pick minima",
        )
