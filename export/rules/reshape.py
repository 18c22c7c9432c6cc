"""Reshape, Flatten, Squeeze and Unsqueeze keep the order of values, and so know their channels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from export.node import Blocked
from export.rules.base import Carrier, Want

if TYPE_CHECKING:
    from export.algebra import Affine
    from export.graph_body import Body
    from export.node import Node

    Shape = tuple[int | None, ...]


class ReshapeRule(Carrier):
    """A new shape over the same values in the same order."""

    op_types: ClassVar[tuple[str, ...]] = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

    def input_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the input axis that tells the output's channels apart."""
        return self._move(body, node, want, node.output, node.input(0))

    def output_want(self, body: Body, node: Node, want: Want) -> Want:
        """Return the affine along the output axis that tells the input's channels apart."""
        return self._move(body, node, want, node.input(0), node.output)

    @staticmethod
    def _move(body: Body, node: Node, want: Want, source: str, target: str) -> Want:
        if want.affine.is_uniform:
            return Want(target, 0, want.affine)
        shapes = body.shape(source), body.shape(target)
        if shapes[0] is None or shapes[1] is None:
            raise Blocked(node.name, f"{node.label}: the shape of a value is unknown")
        if _keeps_axes(body, node, want.axis):
            return Want(target, want.axis, want.affine)
        found = moved(want.affine, want.axis, shapes[0], shapes[1])
        if found is None:
            verb = (
                "may split or mix"
                if None in (*shapes[0][1:], *shapes[1][1:])
                else "splits or mixes"
            )
            raise Blocked(
                node.name,
                f"{node.label} from {_text(body.shape(node.input(0)))} to "
                f"{_text(body.shape(node.output))} {verb} the channels",
            )
        return Want(target, *found)


def _keeps_axes(body: Body, node: Node, last: int) -> bool:
    """Whether a Reshape says by itself that the axes up to `last` stay, whatever their sizes."""
    wanted = body.constant(node.input(1)) if node.op_type == "Reshape" else None
    source = body.shape(node.input(0))
    if wanted is None or source is None or not last < min(len(wanted), len(source)):
        return False
    copies = not node.attribute("allowzero", 0)
    return all(
        (size == 0 and copies) or size == known
        for size, known in zip(wanted[: last + 1], source, strict=False)
    )


def moved(affine: Affine, axis: int, source: Shape, target: Shape) -> tuple[int, Affine] | None:
    """Return where the channels of `source` lie in `target`, and the affine along that axis.

    A value's channel is `(position // stride) % channels`, its position counted in the flat order
    that both shapes share. Some axis of the target must determine it.
    """
    stride = _stride(source, axis)
    if stride is None:
        return None
    period = stride * affine.channels
    for place, size in enumerate(target):
        step = _stride(target, place)
        if size is None or step is None or stride % step or (step * size) % period:
            continue
        return place, affine.spread(inner=stride // step, outer=step * size // period)
    return None


def _stride(shape: Shape, axis: int) -> int | None:
    """Return the number of values behind one step along `axis`, None when unknown."""
    behind = shape[axis + 1 :]
    return None if None in behind else math.prod(size for size in behind if size is not None)


def _text(shape: Shape | None) -> str:
    return "x".join("?" if size is None else str(size) for size in shape or ())
