"""A sum: the scale goes into every term, the shift into one, best into a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from export.affine_nodes import arithmetic
from export.node import Blocked
from export.rules.base import Rule, Step, Want
from export.rules.linear import stored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from export.algebra import Affine
    from export.graph_body import Body
    from export.node import Node


class AddRule(Rule):
    """Add, Sub and Sum."""

    op_types: ClassVar[tuple[str, ...]] = ("Add", "Sub", "Sum")

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Map a constant term and pass the scale on; without one, the first term gets the shift."""
        found = arithmetic(body, node)
        if found is not None:
            axis = _axis_in(body, node, found.slot, want)
            affine = want.affine
            if node.op_type == "Sub" and found.slot == 0:  # s (x - c) + t = s x - (s c - t)
                affine = affine.mirrored
            value = _mapped(body, node, found.constant, affine, want.axis)
            value = stored(node, value, found.constant.dtype)
            scaled = Want(node.input(found.slot), axis, want.affine.scale_only)
            return Step(self, node, {1 - found.slot: value}, wants=(scaled,))
        affines = [want.affine, *(want.affine.scale_only for _ in node.inputs[1:])]
        wants = tuple(
            Want(node.input(slot), _axis_in(body, node, slot, want), affine)
            for slot, affine in enumerate(affines)
        )
        return Step(self, node, wants=wants)

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """Take a shift into the constant term; a scale would have to scale that term, too."""
        found = arithmetic(body, node)
        if found is None or (want.affine.scale != 1).any():
            raise Blocked(node.name, f"{node.label} adds something that must not be scaled")
        # (x + t) + c = x + (c + t), but (x + t) - c = x - (c - t) and c - (x + t) = (c - t) - x
        affine = want.affine if node.op_type == "Add" else want.affine.mirrored
        axis = _axis_out(body, node, slot, want)
        value = _mapped(body, node, found.constant, affine, axis)
        return Step(self, node, {1 - slot: stored(node, value, found.constant.dtype)})


def _axis_in(body: Body, node: Node, slot: int, want: Want) -> int:
    """Return the channels' axis in one term; a term of lower rank lacks the leading axes."""
    if want.affine.is_uniform:
        return want.axis
    rank, own = body.rank(node.output), body.rank(node.input(slot))
    if rank is None or own is None:
        raise Blocked(node.name, f"{node.label}: the rank of a term is unknown")
    axis = want.axis - (rank - own)
    if axis < 0 or body.size(node.input(slot), axis) != want.affine.channels:
        raise Blocked(node.name, f"{node.label} broadcasts {node.input(slot)!r} over the channels")
    return axis


def _axis_out(body: Body, node: Node, slot: int, want: Want) -> int:
    """Return the channels' axis in the sum."""
    if want.affine.is_uniform:
        return want.axis
    rank, own = body.rank(node.output), body.rank(node.input(slot))
    if rank is None or own is None:
        raise Blocked(node.name, f"{node.label}: the rank of a term is unknown")
    return want.axis + (rank - own)


def _mapped(
    body: Body, node: Node, constant: NDArray[Any], affine: Affine, axis: int
) -> NDArray[np.float64]:
    """Return the affine of a constant term, whose axes align with the sum's from the last on."""
    if affine.is_uniform:
        return affine.apply(constant.reshape(constant.shape or (1,)), 0).reshape(constant.shape)
    rank = body.rank(node.output) or constant.ndim
    aligned = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    return affine.apply(aligned, axis)
