"""ReduceMean and ReduceMax over other axes than the channels': pooling by another name."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import Carrier, Want
from export.rules.max_pool import require_monotone

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class ReduceRule(Carrier):
    """A mean keeps an affine, a maximum one with scales >= 0."""

    op_types: ClassVar[tuple[str, ...]] = ("ReduceMean", "ReduceMax")

    def input_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the axis that the channels had before axes went."""
        axes = self._check(body, node, want)
        axis = want.axis
        if not want.affine.is_uniform and not node.attribute("keepdims", 1):
            rank = body.rank(node.input(0)) or 0
            axis = [kept for kept in range(rank) if kept not in axes][want.axis]
        self._require_kept(node, want, axis, axes)
        return Want(node.input(0), axis, want.affine)

    def output_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the axis that the channels have once axes went."""
        axes = self._check(body, node, want)
        self._require_kept(node, want, want.axis, axes)
        gone = 0 if node.attribute("keepdims", 1) else sum(axis < want.axis for axis in axes)
        return Want(node.output, want.axis - gone, want.affine)

    @staticmethod
    def _check(body: Body, node: Node, want: Want) -> set[int]:
        """Return the reduced axes, none of them negative."""
        if node.op_type == "ReduceMax":
            require_monotone(node, want)
        rank = body.rank(node.input(0))
        given = body.constant(node.input(1)) if node.input(1) else node.attribute("axes", ())
        if rank is None or given is None:
            raise Blocked(node.name, f"{node.label}: its axes, or the rank it reads, are unknown")
        everything = set() if node.attribute("noop_with_empty_axes", 0) else set(range(rank))
        return {int(axis) % rank for axis in given} or everything

    @staticmethod
    def _require_kept(node: Node, want: Want, axis: int, axes: set[int]) -> None:
        if axis in axes and not want.affine.is_uniform:
            raise Blocked(node.name, f"{node.label} reduces over the channels, too")
