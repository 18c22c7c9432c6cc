"""Resize repeats or interpolates values within a channel: weights that sum to 1 keep an affine."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import ChannelKeeper, Want

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class ResizeRule(ChannelKeeper):
    """Resize, and Upsample as it was called before opset 10; nearest, linear and cubic."""

    op_types: ClassVar[tuple[str, ...]] = ("Resize", "Upsample")

    def check(self, body: Body, node: Node, want: Want) -> None:
        """Raise Blocked when it pastes in a foreign value or resizes the channels."""
        if node.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize":
            raise Blocked(node.name, f"{node.label} fills in a value of its own outside the input")
        if not want.affine.is_uniform and not _keeps_channels(body, node, want.axis):
            raise Blocked(node.name, f"{node.label} is not known to leave axis {want.axis} alone")


def _keeps_channels(body: Body, node: Node, axis: int) -> bool:
    axes = node.attribute("axes", ())
    rank = body.rank(node.input(0))
    if axes:
        return rank is not None and axis not in {entry % rank for entry in axes}
    scales = node.attribute("scales")  # Upsample of opset 7
    if scales is None:
        # Inputs since opset 11: X, roi, scales, sizes; before: X, scales.
        slot = 2 if node.op_type == "Resize" and body.opset >= 11 else 1
        scales = body.constant(node.input(slot)) if node.input(slot) else None
    if scales is not None and len(scales):
        return bool(scales[axis] == 1)
    before, after = body.size(node.input(0), axis), body.size(node.output, axis)
    return bool(node.input(3)) and before is not None and before == after
