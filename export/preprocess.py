"""Put the pixels' preprocessing and the probabilities inside the graph.

Front: uint8 (batch, height, width, 3) pixels -> float (batch, 3, height, width), normalised with
the card's mean and deviation. Back: logits divided by the temperature, and their softmax.

The normalisation (p / 255 - mean) / std is a scale and a shift of each channel. The scale always
goes into a first convolution's weights. The shift goes into its bias where the convolution has no
padding; with padding it stays a node, for the border is padded after the shift.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.node import Node
from export.parameters import Constants, consumers
from export.simplify import scale_output
from flatfold.contract.card import INPUT_NAME, LOGITS_NAME, PROBABILITIES_NAME

if TYPE_CHECKING:
    from flatfold.contract.card import Card

PIXEL_MAX = 255.0
CHANNELS = 3


def add_front(model: onnx.ModelProto, card: Card) -> None:
    """Make the model take uint8 pictures, in place; its one input becomes `images`."""
    graph = model.graph
    value = graph.input[0].name
    constants = Constants(graph)
    shift = PIXEL_MAX * np.asarray(card.mean, np.float64)
    factor = 1 / (PIXEL_MAX * np.asarray(card.std, np.float64))
    steps = {"Sub": shift, "Mul": factor}  # the nodes that stay
    conv = _first_convolution(graph, value, constants)
    if conv is not None and not _pads(conv):
        _fold_shift(conv, constants, shift * factor)
        steps.pop("Sub")
    if conv is not None:
        _fold_scale(conv, constants, factor)
        steps.pop("Mul")
    if not shift.any():
        steps.pop("Sub", None)
    front = [
        helper.make_node("Transpose", [INPUT_NAME], ["images.planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["images.planes"], ["images.float"], to=TensorProto.FLOAT),
    ]
    for operator, values in steps.items():
        name = constants.add(f"images.{operator}", values.reshape(1, -1, 1, 1).astype(np.float32))
        front.append(
            helper.make_node(operator, [front[-1].output[0], name], [f"images.{operator}d"])
        )
    _replace(graph, value, front[-1].output[0])
    shape = ["batch", card.height, card.width, CHANNELS]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, shape))
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*front, *body])


def add_back(model: onnx.ModelProto, card: Card) -> None:
    """Divide the logits by the temperature and add `probabilities`, in place."""
    graph = model.graph
    logits = graph.output[0].name
    if not scale_output(model, logits, 1 / card.temperature) and card.temperature != 1:
        last = next(node for node in graph.node if logits in node.output)
        last.output[list(last.output).index(logits)] = "logits.hot"
        name = Constants(graph).add("temperature", np.array(card.temperature, np.float32))
        graph.node.append(helper.make_node("Div", ["logits.hot", name], [logits]))
    _replace(graph, logits, LOGITS_NAME)
    graph.node.append(helper.make_node("Softmax", [LOGITS_NAME], [PROBABILITIES_NAME], axis=1))
    shape = ["batch", len(card.labels)]
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in (LOGITS_NAME, PROBABILITIES_NAME)
    )


def _first_convolution(
    graph: onnx.GraphProto, value: str, constants: Constants
) -> onnx.NodeProto | None:
    """Return the ungrouped convolution with constant weights that alone reads `value`, or None."""
    readers = consumers(graph, value)
    conv = readers[0] if len(readers) == 1 else None
    if (
        conv is None
        or conv.op_type != "Conv"
        or conv.input[0] != value
        or Node(conv).attribute("group", 1) != 1
        or any(name not in constants for name in conv.input[1:] if name)
    ):
        return None
    return conv


def _pads(conv: onnx.NodeProto) -> bool:
    automatic = Node(conv).attribute("auto_pad", "NOTSET")
    return any(Node(conv).attribute("pads", ())) or automatic not in {"NOTSET", "VALID"}


def _fold_scale(conv: onnx.NodeProto, constants: Constants, factor: np.ndarray) -> None:
    """weight[o, c, ...] *= factor[c], in float64."""
    weight = constants.get(conv.input[1])
    assert weight is not None  # noqa: S101  _first_convolution has looked
    scaled = weight.astype(np.float64) * factor.reshape(1, -1, 1, 1)
    constants.replace(conv, 1, scaled.astype(weight.dtype))


def _fold_shift(conv: onnx.NodeProto, constants: Constants, shift: np.ndarray) -> None:
    """bias[o] -= sum of weight[o, c, ...] * shift[c], rounded once.

    fsum's result depends on no order of additions, hence on no processor: the bytes of the file
    are the same everywhere.
    """
    weight = constants.get(conv.input[1])
    assert weight is not None  # noqa: S101  _first_convolution has looked
    terms = weight.astype(np.float64) * shift.reshape(1, -1, 1, 1)
    has_bias = len(conv.input) > 2 and conv.input[2]
    bias = constants.get(conv.input[2]) if has_bias else np.zeros(len(weight), weight.dtype)
    assert bias is not None  # noqa: S101  _first_convolution has looked
    moved = [
        math.fsum([float(start), *(-term for term in row.ravel().tolist())])
        for start, row in zip(bias, terms, strict=True)
    ]
    constants.replace(conv, 2, np.array(moved, np.float64).astype(weight.dtype))


def _replace(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename one value of the graph wherever it is read or written."""
    for node in graph.node:
        node.input[:] = [new if value == old else value for value in node.input]
        node.output[:] = [new if value == old else value for value in node.output]
