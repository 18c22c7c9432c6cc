"""DepthToSpace (pixel shuffle) lays several input channels out as one output channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.rules.base import Rule, Step, Want, require_axis

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class DepthToSpaceRule(Rule):
    """Backward only: what one output channel undergoes, each of its input channels does."""

    op_types: ClassVar[tuple[str, ...]] = ("DepthToSpace",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:  # noqa: ARG002 - no shape
        """Spread the affine over the input's channels, in the order of the mode."""
        require_axis(node, want, 1)
        block = node.attribute("blocksize") ** 2
        if node.attribute("mode", "DCR") == "DCR":  # input channel = place in block * C + channel
            affine = want.affine.spread(inner=1, outer=block)
        else:  # CRD: input channel = channel * block + place in block
            affine = want.affine.spread(inner=block, outer=1)
        return Step(self, node, wants=(Want(node.input(0), 1, affine),))
