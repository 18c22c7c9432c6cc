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

from export.node import Node
from export.parameters import Constants, consumers, producer

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

CHANNELS = 3
MASK = 255  # the largest byte, so that the weights on it are small


def absorb_shift(
    graph: onnx.GraphProto,
    constants: Constants,
    cast: onnx.NodeProto,
    kept: Collection[onnx.NodeProto] = (),
) -> None:
    """Move the Sub between the Cast of the pixels and a convolution into the weights, in place.

    Nothing changes where there is no such Sub, or where the convolution is in `kept`.
    """
    found = _shift_and_convolution(graph, constants, cast)
    if found is None or found[1] in kept:
        return
    sub, conv = found
    shift, weight = constants.get(sub.input[1]), constants.get(conv.input[1])
    assert shift is not None  # noqa: S101  _shift_and_convolution has looked
    assert weight is not None  # noqa: S101  as above
    moved = np.einsum("oc...,c->o...", weight.astype(np.float64), shift.ravel() / MASK)
    widened = np.concatenate([weight, -moved[:, None].astype(weight.dtype)], axis=1)
    constants.replace(conv, 1, widened)
    conv.input[0] = cast.output[0]
    pads = constants.add("images.mask.pads", np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64))
    mask = constants.add("images.mask.value", np.array(MASK, np.uint8))
    masked = f"{cast.input[0]}.masked"
    pad = helper.make_node("Pad", [cast.input[0], pads, mask], [masked], masked)
    cast.input[0] = masked
    graph.node.insert(list(graph.node).index(cast), pad)
    graph.node.remove(sub)


def float_detour(model: onnx.ModelProto) -> str:
    """Return why the pixels of a quantised model are not what its first layer reads, or ""."""
    graph = model.graph
    found = (n for n in graph.node if n.op_type == "DequantizeLinear" and _is_raw(graph, n))
    pixels = next(found, None)
    readers = consumers(graph, pixels.output[0]) if pixels is not None else []
    stray = [node for node in readers if node.op_type != "Conv"]
    if not stray:
        return ""
    return (
        f"the pixels pass {', '.join(node.op_type for node in stray)} in float before the first "
        "layer: the normalisation goes only into an ungrouped convolution of constant weights that "
        "alone reads them"
    )


def _shift_and_convolution(
    graph: onnx.GraphProto, constants: Constants, cast: onnx.NodeProto
) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """Return the Sub that alone reads the pixels and the convolution that alone reads the Sub."""
    readers = consumers(graph, cast.output[0])
    sub = readers[0] if len(readers) == 1 and readers[0].op_type == "Sub" else None
    shift = constants.get(sub.input[1]) if sub is not None else None
    if sub is None or shift is None or shift.size != CHANNELS or sub.input[0] != cast.output[0]:
        return None
    readers = consumers(graph, sub.output[0])
    conv = readers[0] if len(readers) == 1 and readers[0].op_type == "Conv" else None
    if conv is None or Node(conv).attribute("group", 1) != 1:
        return None
    weight = constants.get(conv.input[1])
    return None if weight is None or weight.shape[1] != CHANNELS else (sub, conv)


def _is_raw(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether `node` dequantises a picture: an input of the graph, moved or padded at most."""
    value = node.input[0]
    while (before := producer(graph, value)) is not None:
        if before.op_type not in {"Pad", "Transpose"}:
            return False
        value = before.input[0]
    return any(entry.name == value for entry in graph.input)
