"""MatMul with a constant matrix takes a scale; for a shift it becomes a Gemm, where ranks allow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from export.algebra import Affine
from export.node import Blocked
from export.rules.base import Rule, Step, Want, float_constant, require_axis
from export.rules.linear import absorb, stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.graph_body import Body
    from export.node import Node


class MatMulRule(Rule):
    """`x W` with features along the last axis, or `W x` with features along the one before it."""

    op_types: ClassVar[tuple[str, ...]] = ("MatMul",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Scale W's outputs; where a shift is left, become a Gemm."""
        slot, weight = _weight(body, node)
        _require_feature_axis(body, node, want, node.output, slot)
        folded, shift = absorb(node, canonical(slot, weight), want.affine)
        return self._step(body, node, slot, folded, shift)

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """Scale W's inputs; what the shift becomes goes to a bias behind, or to a Gemm's."""
        side, weight = _weight(body, node)
        if slot == side:
            raise Blocked(node.name, f"{node.label} reads it as a weight")
        _require_feature_axis(body, node, want, node.input(slot), side)
        folded, lifted = absorb(node, canonical(side, weight), want.affine, before=True)
        if not lifted.any() or (side == 1 and body.rank(node.input(0)) == 2):
            return self._step(body, node, side, folded, lifted)
        matrix = folded[0, :, :, 0] if side == 0 else folded[0, :, :, 0].T
        rank = body.rank(node.output)
        if rank is None or rank < 2:
            raise Blocked(node.name, f"{node.label}: the rank of its output is unknown, or 1")
        # For a bias behind to take, along the axis of the outputs.
        left = Want(node.output, rank - 1 if side == 1 else rank - 2, Affine.of(1.0, lifted))
        return Step(self, node, {side: matrix}, wants=(left,))

    def _step(
        self,
        body: Body,
        node: Node,
        slot: int,
        folded: NDArray[Any],
        shift: NDArray[np.float64],
    ) -> Step:
        matrix = folded[0, :, :, 0] if slot == 0 else folded[0, :, :, 0].T
        step = Step(self, node, {slot: matrix})
        if not shift.any():
            return step
        if slot != 1 or body.rank(node.input(0)) != 2:
            raise Blocked(
                node.name,
                f"{node.label} has no bias for the shift, and is no product of two matrices",
                shift_only=True,
            )
        return replace(step, constants={1: matrix, 2: stored(node, shift, matrix.dtype)})

    def rewrite(self, body: Body, step: Step) -> None:
        """Store the matrix; with a bias, the node is a Gemm from now on."""
        if 2 in step.constants:
            step.node.proto.op_type = "Gemm"
        super().rewrite(body, step)


def _weight(body: Body, node: Node) -> tuple[int, NDArray[Any]]:
    """Return the slot of the constant matrix and its value."""
    slot = 0 if body.constant(node.input(0)) is not None else 1
    weight = float_constant(body, node, slot, "matrix")
    if weight.ndim != 2:
        raise Blocked(node.name, f"{node.label} has a constant of {weight.ndim} axes, not a matrix")
    return slot, weight


def canonical(slot: int, weight: NDArray[Any]) -> NDArray[Any]:
    """Return the matrix in the algebra's layout: one group, one tap."""
    matrix = weight if slot == 0 else weight.T
    return matrix[np.newaxis, :, :, np.newaxis]


def _require_feature_axis(body: Body, node: Node, want: Want, value: str, slot: int) -> None:
    if want.affine.is_uniform:
        return
    rank = body.rank(value)
    if rank is None:
        raise Blocked(node.name, f"{node.label}: the rank of {value!r} is unknown")
    require_axis(node, want, rank - 1 if slot == 1 else rank - 2)
