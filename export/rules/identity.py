"""Operators that hand each value on: Identity, Dropout at inference, Cast between floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import onnx

from export.node import Blocked
from export.rules.base import ChannelKeeper, Want
from export.tensors import FLOAT_TYPES

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node


class IdentityRule(ChannelKeeper):
    """Identity."""

    op_types: ClassVar[tuple[str, ...]] = ("Identity",)


class DropoutRule(ChannelKeeper):
    """Dropout, which drops nothing unless its training_mode (opset 12) says so."""

    op_types: ClassVar[tuple[str, ...]] = ("Dropout",)

    def check(self, body: Body, node: Node, want: Want) -> None:  # noqa: ARG002 - any affine passes
        """Raise Blocked when it drops."""
        if not node.input(2):
            return
        training = body.constant(node.input(2))
        if training is None or training.any():
            raise Blocked(node.name, f"{node.label} may drop values: its training_mode is set")


class CastRule(ChannelKeeper):
    """Cast from one float type to another, forward only to one that holds as much.

    The scale may be what brings the values into the range of a narrower type.
    """

    op_types: ClassVar[tuple[str, ...]] = ("Cast",)

    def check(self, body: Body, node: Node, want: Want) -> None:  # noqa: ARG002 - any affine passes
        """Raise Blocked when either side is no float."""
        if not {body.element(node.input(0)), node.attribute("to")} <= FLOAT_TYPES:
            raise Blocked(node.name, f"{node.label} is no cast from float to float")

    def output_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the same affine on the output."""
        passed = super().output_want(body, node, want)
        source, target = (
            onnx.helper.tensor_dtype_to_np_dtype(element)
            for element in (body.element(node.input(0)), node.attribute("to"))
        )
        if target != source and target.itemsize <= source.itemsize:
            raise Blocked(node.name, f"{node.label} narrows {source} to {target}: scaled before it")
        return passed
