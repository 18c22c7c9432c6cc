"""Put the pixels' preprocessing and the probabilities inside the graph.

Front: uint8 (batch, height, width, 3) pixels -> float (batch, 3, height, width), normalised with
the card's mean and deviation. Back: logits divided by the temperature, and their softmax.

The normalisation (p / 255 - mean) / std is a scale and a shift of each channel. The scale goes into
the first layer's weights, as the temperature into the last one's, by the rules of folding. The
shift goes into a first convolution's bias where it has no padding; with padding it stays a node,
for the border is padded after the shift.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.algebra import Affine
from export.graph_body import open_bodies
from export.node import Blocked
from export.plan import carry_out, plan_backward, plan_forward
from export.rules import Step, Want
from export.rules.base import float_constant
from export.rules.conv import is_padded
from flatfold.contract.card import INPUT_NAME, LOGITS_NAME, PROBABILITIES_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from export.graph_body import Body
    from export.node import Node
    from flatfold.contract.card import Card

PIXEL_MAX = 255.0
CHANNELS = 3


def add_front(model: onnx.ModelProto, card: Card) -> None:
    """Make the model take uint8 pictures, in place; its one input becomes `images`."""
    graph = model.graph
    value = graph.input[0].name
    body = open_bodies(model)[0]
    shift = PIXEL_MAX * np.asarray(card.mean, np.float64)
    factor = 1 / (PIXEL_MAX * np.asarray(card.std, np.float64))
    steps = {"Sub": shift, "Mul": factor}  # the nodes that stay
    conv = _unpadded_convolution(body, value)
    if conv is not None:
        _fold_shift(body, conv, shift * factor)
        steps.pop("Sub")
    if _fold(body, plan_forward, Want(value, 1, Affine.of(factor, 0.0))):
        steps.pop("Mul")
    if not shift.any():
        steps.pop("Sub", None)
    front = [
        helper.make_node("Transpose", [INPUT_NAME], ["images.planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["images.planes"], ["images.float"], to=TensorProto.FLOAT),
    ]
    for operator, values in steps.items():
        planes = values.reshape(1, -1, 1, 1).astype(np.float32)
        operands = [front[-1].output[0], body.add_constant(planes, f"images.{operator}")]
        front.append(helper.make_node(operator, operands, [f"images.{operator}d"]))
    body.redirect(value, front[-1].output[0])
    first = body.nodes[0]
    for node in front:
        body.insert(node, before=first)
    shape = ["batch", card.height, card.width, CHANNELS]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, shape))


def add_back(model: onnx.ModelProto, card: Card) -> None:
    """Divide the logits by the temperature and add `probabilities`, in place."""
    graph = model.graph
    value = graph.output[0].name
    body = open_bodies(model)[0]
    cold = _fold(body, plan_backward, Want(value, 1, Affine.of(1 / card.temperature, 0.0)))
    name = LOGITS_NAME if cold else f"{LOGITS_NAME}.hot"
    body.redirect(value, name)
    body.rename_output(value, name)
    if not cold:
        divisor = body.add_constant(np.array(card.temperature, np.float32), "temperature")
        body.insert(helper.make_node("Div", [name, divisor], [LOGITS_NAME]))
    body.insert(helper.make_node("Softmax", [LOGITS_NAME], [PROBABILITIES_NAME], axis=1))
    shape = ["batch", len(card.labels)]
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in (LOGITS_NAME, PROBABILITIES_NAME)
    )


def _fold(body: Body, plan: Callable[[Body, Want], list[Step]], want: Want) -> bool:
    """Let the layers around a value take a scale over; whether they do, else nothing changes."""
    try:
        steps = plan(body, want)
    except Blocked:
        return False
    carry_out(body, steps)
    body.tidy()
    return True


def _unpadded_convolution(body: Body, value: str) -> Node | None:
    """Return the ungrouped one with constant weights that alone reads `value`, or None."""
    conv = body.only_reader(value)
    if conv is None or conv.op_type != "Conv" or conv.attribute("group", 1) != 1:
        return None
    constant = all(body.constant(name) is not None for name in conv.inputs[1:] if name)
    return conv if constant and not is_padded(body, conv) else None


def _fold_shift(body: Body, conv: Node, shift: NDArray[np.float64]) -> None:
    """bias[o] -= sum of weight[o, c, ...] * shift[c], rounded once.

    fsum's result depends on no order of additions, hence on no processor: the bytes of the file
    are the same everywhere.
    """
    weight = float_constant(body, conv, 1, "weight")
    bias = float_constant(body, conv, 2, "bias") if conv.input(2) else np.zeros(len(weight))
    terms = weight.astype(np.float64) * shift.reshape(1, -1, 1, 1)
    moved = [
        math.fsum([float(start), *(-term for term in row.ravel().tolist())])
        for start, row in zip(bias, terms, strict=True)
    ]
    body.set_constant(conv, 2, np.array(moved, np.float64).astype(weight.dtype))
