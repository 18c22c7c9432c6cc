"""Transpose carries the channels to another axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import Carrier, Want

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class TransposeRule(Carrier):
    """Output axis i is input axis perm[i]; without perm, the axes turn around."""

    op_types: ClassVar[tuple[str, ...]] = ("Transpose",)

    def input_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the axis that the channels came from."""
        if want.affine.is_uniform:
            return Want(node.input(0), 0, want.affine)
        return Want(node.input(0), _permutation(body, node)[want.axis], want.affine)

    def output_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the axis that the channels go to."""
        if want.affine.is_uniform:
            return Want(node.output, 0, want.affine)
        return Want(node.output, _permutation(body, node).index(want.axis), want.affine)


def _permutation(body: Body, node: Node) -> list[int]:
    given = node.attribute("perm")
    if given is not None:
        return list(given)
    rank = body.rank(node.input(0))
    if rank is None:
        raise Blocked(node.name, f"{node.label}: the rank of what it reads is unknown")
    return list(reversed(range(rank)))
