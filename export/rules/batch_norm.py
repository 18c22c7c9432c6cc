"""A batch norm that has to stay still takes over the ones behind and in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from export.affine_nodes import batch_norm_affine
from export.node import Blocked
from export.rules.base import Rule, Step, Want, float_constant, require_axis
from export.rules.linear import stored

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.algebra import Affine
    from export.graph_body import Body
    from export.node import Node


class BatchNormRule(Rule):
    """BatchNormalization with running statistics."""

    op_types: ClassVar[tuple[str, ...]] = ("BatchNormalization",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Scale gamma and beta, shift beta: `s (gamma z + beta) + t`."""
        own, gamma = self._own(body, node, want)
        beta = float_constant(body, node, 2, "bias")
        affine = _over(node, want.affine, own.channels)
        values = {
            1: stored(node, affine.scale_only.apply(gamma, 0), gamma.dtype),
            2: stored(node, affine.apply(beta, 0), beta.dtype),
        }
        return Step(self, node, values)

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """Scale gamma; beta takes what becomes of the shift, and of the mean, which is then 0."""
        if slot != 0:
            raise Blocked(node.name, f"{node.label} reads it as a parameter")
        own, gamma = self._own(body, node, want)
        beta = float_constant(body, node, 2, "bias")
        mean = float_constant(body, node, 3, "mean")
        affine = _over(node, want.affine, own.channels)
        values = {
            1: stored(node, affine.scale_only.apply(gamma, 0), gamma.dtype),
            2: stored(node, own.after(affine).shift, beta.dtype),
            3: np.zeros_like(mean),
        }
        return Step(self, node, values)

    @staticmethod
    def _own(body: Body, node: Node, want: Want) -> tuple[Affine, NDArray[Any]]:
        """Return the batch norm's map and its gamma; raise where it must stay untouched."""
        require_axis(node, want, 1)
        return batch_norm_affine(body, node), float_constant(body, node, 1, "scale")


def _over(node: Node, affine: Affine, channels: int) -> Affine:
    try:
        return affine.over(channels)
    except ValueError as error:
        raise Blocked(node.name, f"{node.label}: {error}") from error
