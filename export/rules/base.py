"""What a rule is: match by operator, check without touching anything, rewrite once all agree.

An affine wanted somewhere is a `Want`. Backward, the producer of the value is asked to deliver the
mapped value; forward, the readers are asked to map it themselves. A rule takes all of it into its
own constants, or passes it on as new wants, or says in one sentence why it cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from export.graph_constants import why_unknown
from export.node import Blocked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from export.algebra import Affine
    from export.graph_body import Body
    from export.node import Node


@dataclass(frozen=True)
class Want:
    """An affine that a value should undergo.

    Attributes:
        value: name of the value.
        axis: the axis of its channels; without meaning where the affine is uniform.
        affine: what is wanted.
    """

    value: str
    axis: int
    affine: Affine


@dataclass(frozen=True)
class Step:
    """One rule's part of a plan, computed by its check and carried out by its rewrite.

    Attributes:
        rule: whose part it is.
        node: the node concerned.
        constants: new values by input slot, in the dtype that the node has there.
        attributes: new attribute values.
        wants: what is left for the neighbours.
    """

    rule: Rule
    node: Node
    constants: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    wants: tuple[Want, ...] = ()


class Rule:
    """How some operators take part in a fold. A rule that overrides no check takes no part."""

    op_types: ClassVar[tuple[str, ...]] = ()

    # The two checks use nothing but the node: they are there to be overridden.
    def check_backward(self, body: Body, node: Node, want: Want) -> Step:  # noqa: ARG002
        """Answer what it takes for `node` to deliver `want.affine(output)`; change nothing.

        Raises:
            Blocked: it cannot; says why.
        """
        raise Blocked(node.name, f"{node.label} cannot take a scale and shift over")

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:  # noqa: ARG002
        """Answer what it takes for `node` to apply `want.affine` to input `slot`; change nothing.

        Raises:
            Blocked: it cannot; says why.
        """
        raise Blocked(node.name, f"{node.label} cannot take a scale and shift over")

    def rewrite(self, body: Body, step: Step) -> None:
        """Carry out a step; by default store its constants and attributes."""
        for slot, value in step.constants.items():
            body.set_constant(step.node, slot, value)
        for name, value in step.attributes.items():
            step.node.set_attribute(name, value)


class Carrier(Rule):
    """An operator that commutes with a per-channel affine: it moves, repeats or picks values."""

    def input_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return what its input must undergo for its output to undergo `want`.

        Raises:
            Blocked: nothing does.
        """
        raise NotImplementedError

    def output_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return what its output undergoes when its input undergoes `want`.

        Raises:
            Blocked: nothing that is one affine a channel.
        """
        raise NotImplementedError

    def check_backward(self, body: Body, node: Node, want: Want) -> Step:
        """Pass the want on to the input."""
        self._check_outputs(body, node)
        return Step(self, node, wants=(self.input_want(body, node, want),))

    def check_forward(self, body: Body, node: Node, slot: int, want: Want) -> Step:
        """Pass the want on to the readers of the output."""
        if slot != 0:
            raise Blocked(node.name, f"{node.label} reads it as a parameter")
        self._check_outputs(body, node)
        return Step(self, node, wants=(self.output_want(body, node, want),))

    @staticmethod
    def _check_outputs(body: Body, node: Node) -> None:
        if body.spare_outputs_used(node):
            raise Blocked(node.name, f"{node.label} has a second output in use")


class ChannelKeeper(Carrier):
    """A carrier that leaves axis and number of the channels as they are."""

    def check(self, body: Body, node: Node, want: Want) -> None:
        """Raise Blocked where the operator does not commute with the affine."""

    def input_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the same affine on the input."""
        self.check(body, node, want)
        return Want(node.input(0), want.axis, want.affine)

    def output_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the same affine on the output."""
        self.check(body, node, want)
        return Want(node.output, want.axis, want.affine)


def require_axis(node: Node, want: Want, axis: int) -> None:
    """Raise Blocked when the affine's channels do not lie along `axis` of the node's value."""
    if not want.affine.is_uniform and want.axis != axis:
        raise Blocked(
            node.name,
            f"{node.label} has its channels on axis {axis}, the affine runs along axis {want.axis}",
        )


def float_constant(body: Body, node: Node, slot: int, what: str) -> NDArray[Any]:
    """Return a weight or another float parameter.

    Raises:
        Blocked: it is not constant.
    """
    value = body.constant(node.input(slot))
    if value is None:
        why = why_unknown(body, node.input(slot))
        raise Blocked(node.name, f"{node.label}: its {what} {node.input(slot)!r} is {why}")
    return value
