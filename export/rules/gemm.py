"""Gemm takes an affine into its matrix B and its addend C, transposed or scaled as they may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from export.node import Blocked
from export.rules.base import Rule, Step, Want, float_constant, require_axis
from export.rules.linear import absorb, stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.graph_body import Body
    from export.node import Node


class GemmRule(Rule):
    """`Y = alpha * A B + beta * C`, where A runs and B and C are constant."""

    op_types: ClassVar[tuple[str, ...]] = ("Gemm",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Scale B's columns; map beta * C."""
        require_axis(node, want, 1)
        weight, addend = self._operands(body, node)
        folded, shift = absorb(node, canonical(node, weight), want.affine)
        scale = want.affine.over(shift.size).scale
        return self._step(node, weight, folded, scale * addend + shift)

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """Scale B's rows; what the shift becomes goes into C."""
        if slot != 0:
            raise Blocked(node.name, f"{node.label} reads it as a weight")
        require_axis(node, want, 0 if node.attribute("transA", 0) else 1)
        weight, addend = self._operands(body, node)
        folded, lifted = absorb(node, canonical(node, weight), want.affine, before=True)
        return self._step(node, weight, folded, addend + node.attribute("alpha", 1.0) * lifted)

    @staticmethod
    def _operands(body: Body, node: Node) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return B as it is, and beta * C in float64 with C's shape, 0 where there is no C."""
        weight = float_constant(body, node, 1, "matrix")
        if not node.input(2) or node.attribute("beta", 1.0) == 0:
            return weight, np.zeros(1)
        addend = float_constant(body, node, 2, "addend").astype(np.float64)
        return weight, node.attribute("beta", 1.0) * addend

    def _step(
        self, node: Node, weight: NDArray[Any], folded: NDArray[Any], addend: NDArray[np.float64]
    ) -> Step:
        matrix = folded[0, :, :, 0]
        constants = {1: matrix if node.attribute("transB", 0) else matrix.T}
        if node.input(2) or addend.any():
            constants[2] = stored(node, addend, weight.dtype)
            return Step(self, node, constants, {"beta": 1.0})
        return Step(self, node, constants)


def canonical(node: Node, weight: NDArray[Any]) -> NDArray[Any]:
    """Return Gemm's B in the algebra's layout: one group, one tap."""
    matrix = weight if node.attribute("transB", 0) else weight.T
    return matrix[np.newaxis, :, :, np.newaxis]
