"""A product with a constant joins the affine behind it, and leaves the graph with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from export.affine_nodes import arithmetic
from export.node import Blocked
from export.rules.base import Rule, Step, Want

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class MultiplyRule(Rule):
    """Mul and Div by one number a channel: together with what follows, another affine.

    On its own it folds before; it is met here when only the two together can pass what is behind
    it, as two negative scales pass a maximum.
    """

    op_types: ClassVar[tuple[str, ...]] = ("Mul", "Div")

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Want both maps of the input."""
        found = arithmetic(body, node)
        if found is None or found.affine is None:
            raise Blocked(node.name, f"{node.label} multiplies by no constant per channel")
        if found.affine.is_uniform or want.affine.is_uniform or found.axis == want.axis:
            axis = want.axis if found.affine.is_uniform else found.axis
            both = Want(node.input(found.slot), axis, want.affine.after(found.affine))
            alone = body.producer(both.value) and len(body.uses(both.value)) == 1
            if both.affine.is_identity and not alone:
                # Nothing is left to want, so that nobody would ask for other readers or a producer.
                raise Blocked(node.name, f"{node.label} reads {both.value!r}, which is not its own")
            return Step(self, node, wants=(both,))
        raise Blocked(node.name, f"{node.label} multiplies along another axis than the channels'")

    def rewrite(self, body: Body, step: Step) -> None:
        """Take the node out."""
        found = arithmetic(body, step.node)
        assert found is not None  # noqa: S101 - its check saw it
        body.bypass(step.node, found.slot)
