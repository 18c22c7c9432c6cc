"""Let the uint8 pixels enter a padded first convolution as they are, exactly.

Where the convolution has no padding, the normalisation's shift is in its bias (`preprocess.py`).
With padding it is not, for the border is padded after the shift: `conv(pad(pixels - shift))`. But
the shift can travel as a fourth channel that is 255 inside the picture and padded with 0 like the
others: the weight `-sum over c of weight[o, c, tap] * shift[c] / 255` on it subtracts the shift
wherever a tap meets a pixel, and nothing wherever it meets the border.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from export.graph import Graph
from export.rules.base import float_constant

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from export.graph_body import Body
    from export.node import Node

CHANNELS = 3
MASK = 255  # the largest byte, so that the weights on it are small


def absorb_shift(body: Body, cast: Node, kept: Collection[Node] = ()) -> None:
    """Move the Sub between the Cast of the pixels and a convolution into the weights, in place.

    Nothing changes where there is no such Sub, or where the convolution is in `kept`.
    """
    found = _shift_and_convolution(body, cast)
    if found is None or found[1] in kept:
        return
    sub, conv = found
    shift = float_constant(body, sub, 1, "shift")
    weight = float_constant(body, conv, 1, "weight")
    moved = np.einsum("oc...,c->o...", weight.astype(np.float64), shift.ravel() / MASK)
    widened = np.concatenate([weight, -moved[:, None].astype(weight.dtype)], axis=1)
    body.set_constant(conv, 1, widened)
    body.set_input(conv, 0, cast.output)
    body.remove(sub)
    pads = body.add_constant(np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64), "images.mask.pads")
    mask = body.add_constant(np.array(MASK, np.uint8), "images.mask.value")
    masked = f"{cast.input(0)}.masked"
    pad = helper.make_node("Pad", [cast.input(0), pads, mask], [masked], masked)
    body.insert(pad, before=cast)
    body.set_input(cast, 0, masked)


def float_detour(model: onnx.ModelProto) -> str:
    """Return why the pixels of a quantised model are not what its first layer reads, or ""."""
    graph = Graph(model.graph)
    found = (n for n in graph.nodes if n.op_type == "DequantizeLinear" and _is_raw(graph, n))
    pixels = next(found, None)
    readers = [use.node for use in graph.uses(pixels.output)] if pixels is not None else []
    stray = [node for node in readers if node is not None and node.op_type != "Conv"]
    if not stray:
        return ""
    return (
        f"the pixels pass {', '.join(node.op_type for node in stray)} in float before the first "
        "layer: the normalisation goes only into an ungrouped convolution of constant weights that "
        "alone reads them"
    )


def _shift_and_convolution(body: Body, cast: Node) -> tuple[Node, Node] | None:
    """Return the Sub that alone reads the pixels and the convolution that alone reads the Sub."""
    sub = body.only_reader(cast.output)
    if sub is None or sub.op_type != "Sub" or sub.input(0) != cast.output:
        return None
    conv = body.only_reader(sub.output)
    if conv is None or conv.op_type != "Conv" or conv.attribute("group", 1) != 1:
        return None
    shift, weight = body.constant(sub.input(1)), body.constant(conv.input(1))
    if shift is None or shift.size != CHANNELS or weight is None or weight.shape[1] != CHANNELS:
        return None
    return sub, conv


def _is_raw(graph: Graph, node: Node) -> bool:
    """Whether `node` dequantises a picture: an input of the graph, moved or padded at most."""
    value = node.input(0)
    while (before := graph.producer(value)) is not None:
        if before.op_type not in {"Pad", "Transpose"}:
            return False
        value = before.input(0)
    return value in graph.input_names
