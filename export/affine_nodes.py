"""Nodes that are a per-channel affine map: batch norms, and arithmetic with a constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from export.algebra import Affine, DegenerateStatisticsError
from export.graph_body import is_float
from export.graph_constants import why_unknown
from export.node import Blocked
from export.report import FoldRefusedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.graph_body import Body
    from export.node import Node

ARITHMETIC = ("Add", "Sub", "Mul", "Div")
PARAMETERS = ("scale", "bias", "mean", "variance")
DEFAULT_EPSILON = float(np.float32(1e-5))  # ONNX attributes are float32


def batch_norm_affine(body: Body, node: Node) -> Affine:
    """Return what a BatchNormalization computes with running statistics, along axis 1.

    Raises:
        Blocked: it normalises with batch statistics or an element at a time, or a parameter is
            known only at run time.
        FoldRefusedError: its parameters are broken.
    """
    if body.opset < 7:
        raise Blocked(node.name, f"{node.label} of opset {body.opset}; 7 is the oldest understood")
    if node.attribute("training_mode", 0):
        raise Blocked(node.name, f"{node.label} is in training mode: it uses batch statistics")
    # Before opset 14 the number of outputs says which mode it is in; since, an attribute does.
    if body.spare_outputs_used(node) or (body.opset < 14 and any(node.outputs[1:])):
        raise Blocked(node.name, f"{node.label} has several outputs: it updates statistics")
    if not node.attribute("spatial", 1):
        raise Blocked(node.name, f"{node.label} has statistics for each element (spatial=0)")
    values = []
    for slot, what in enumerate(PARAMETERS, start=1):
        value = body.constant(node.input(slot))
        if value is None:
            why = why_unknown(body, node.input(slot))
            raise Blocked(node.name, f"{node.label}: its {what} {node.input(slot)!r} is {why}")
        values.append(value)
    try:
        gamma, beta, mean, variance = values
        epsilon = node.attribute("epsilon", DEFAULT_EPSILON)
        return Affine.of_batch_norm(gamma, beta, mean, variance, epsilon)
    except DegenerateStatisticsError as error:
        raise FoldRefusedError(
            f"cannot fold {node.label}: its {error}; repair or retrain the model, "
            "folding would spread the damage"
        ) from error


@dataclass(frozen=True)
class Arithmetic:
    """An Add, Sub, Mul or Div with one constant operand.

    Attributes:
        slot: the input that is not constant.
        constant: the other one's value.
        affine: the node's map, when it is one a channel; else None.
        axis: the axis of the channels.
    """

    slot: int
    constant: NDArray[Any]
    affine: Affine | None
    axis: int


def arithmetic(body: Body, node: Node) -> Arithmetic | None:
    """Return what a node computes with its constant operand; None when it has none, or two."""
    if node.op_type not in ARITHMETIC or len(node.inputs) != 2:
        return None
    operands = [body.constant(name) for name in node.inputs]
    slot = 0 if operands[0] is None else 1
    constant = operands[1 - slot]
    if constant is None or operands[slot] is not None or not is_float(constant):
        return None
    if node.op_type == "Div" and slot == 1:
        return None  # constant / x is no affine of x
    vector, axis = _channel_vector(body, node.input(slot), constant)
    affine = None if vector is None else _affine(node.op_type, slot, vector)
    return Arithmetic(slot, constant, affine, axis)


def _affine(op_type: str, slot: int, vector: NDArray[np.float64]) -> Affine | None:
    if op_type == "Mul":
        result = Affine.of(vector, 0.0)
    elif op_type == "Div":
        with np.errstate(divide="ignore"):
            result = Affine.of(1.0 / vector, 0.0)
    elif op_type == "Add":
        result = Affine.of(1.0, vector)
    else:
        result = Affine.of(1.0, -vector) if slot == 0 else Affine.of(-1.0, vector)
    finite = np.isfinite(result.scale).all() and np.isfinite(result.shift).all()
    return result if finite else None


def _channel_vector(
    body: Body, value: str, constant: NDArray[Any]
) -> tuple[NDArray[np.float64] | None, int]:
    """Return the constant as one number a channel of `value`, and the axis of the channels."""
    rank = body.rank(value)
    numbers = constant.astype(np.float64).ravel()
    if constant.size == 1 and constant.ndim <= (1 if rank is None else rank):
        return numbers, 1
    long = [axis for axis, size in enumerate(constant.shape) if size != 1]
    if rank is None or constant.ndim > rank or len(long) != 1:
        return None, 1
    axis = long[0] + rank - constant.ndim
    return (numbers, axis) if body.size(value, axis) == constant.size else (None, 1)
