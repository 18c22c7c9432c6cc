"""A batch norm that has to stay still takes over the one behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.affine_nodes import batch_norm_affine
from export.graph import Blocked
from export.rules.base import Rule, Step, Want, float_constant, require_axis
from export.rules.linear import stored

if TYPE_CHECKING:
    from export.graph import Node
    from export.graph_body import Body


class BatchNormRule(Rule):
    """BatchNormalization with running statistics: `s (gamma z + beta) + t`."""

    op_types: ClassVar[tuple[str, ...]] = ("BatchNormalization",)

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Scale gamma and beta, shift beta."""
        require_axis(node, want, 1)
        channels = batch_norm_affine(body, node).channels  # raises where it must stay untouched
        gamma = float_constant(body, node, 1, "scale")
        beta = float_constant(body, node, 2, "bias")
        try:
            affine = want.affine.over(channels)
        except ValueError as error:
            raise Blocked(node.name, f"{node.label}: {error}") from error
        values = {
            1: stored(node, affine.scale_only.apply(gamma, 0), gamma.dtype),
            2: stored(node, affine.apply(beta, 0), beta.dtype),
        }
        return Step(self, node, values)
