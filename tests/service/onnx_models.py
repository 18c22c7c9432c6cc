"""Small ONNX models that tests serve, each built in a few lines with the onnx package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flatfold.contract.card import CARD_KEY, Card

if TYPE_CHECKING:
    from pathlib import Path

OPSET = [helper.make_opsetid("", 17)]


def _save(path: Path, nodes, inputs, outputs, weights=(), metadata=None) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(*spec) for spec in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    model = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def picture_classifier(
    path: Path,
    *,
    name="tiny",
    labels=("red", "green", "blue"),
    size=8,
    gain=1.0,
    card=True,
    centred=False,
) -> Path:
    """Score each picture's mean red, green and blue: logits = gain * mean / 255; uint8 NHWC in.

    Centred subtracts the batch's mean, so that pictures in one batch change each other's logits.
    """
    if len(labels) != 3:
        raise ValueError("one label a channel")
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scores"]),
        helper.make_node("ReduceMean", ["scores"], ["batch_mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["scores", "batch_mean"], ["logits"])
        if centred
        else helper.make_node("Identity", ["scores"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    text = Card(name=name, labels=tuple(labels), height=size, width=size).to_json()
    return _save(
        path,
        nodes,
        [("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [
            ("logits", TensorProto.FLOAT, ["batch", 3]),
            ("probabilities", TensorProto.FLOAT, ["batch", 3]),
        ],
        [("scale", np.array(gain / 255, np.float32))],
        {CARD_KEY: text} if card else None,
    )


def dazzled(path: Path, brightest=200) -> Path:
    """Score as `picture_classifier` does; a mean above `brightest` makes the runtime throw."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Cast", ["mean"], ["level"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "level"], ["logits"]),
    ]
    card = Card(name="dazzled", labels=("red", "green", "blue"), height=8, width=8)
    return _save(
        path,
        nodes,
        [("images", TensorProto.UINT8, ["batch", 8, 8, 3])],
        [("logits", TensorProto.FLOAT, ["batch", 3])],
        [("table", np.arange(brightest + 1, dtype=np.float32) / 255)],
        {CARD_KEY: card.to_json()},
    )


def scorer(path: Path, *, op="Identity", free=False, embedding=0, total=False) -> Path:
    """Score like `picture_classifier`, without a card and under no known name.

    The output "scores" is op(mean / 255), three columns, free ones if so wanted; before it stand an
    embedding of so many columns, and the batch's total, a scalar.
    """
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node(op, ["scaled"], ["all"]),
        helper.make_node("Compress", ["all", "kept"], ["scores"], axis=1)
        if free
        else helper.make_node("Identity", ["all"], ["scores"]),
    ]
    outputs = [("scores", TensorProto.FLOAT, ["batch", "classes" if free else 3])]
    weights = [("scale", np.array(1 / 255, np.float32))]
    if free:
        weights.append(("kept", np.ones(3, np.bool_)))
    if embedding:
        nodes.append(helper.make_node("MatMul", ["scaled", "projection"], ["embedding"]))
        weights.append(("projection", np.ones((3, embedding), np.float32)))
        outputs.insert(0, ("embedding", TensorProto.FLOAT, ["batch", embedding]))
    if total:
        nodes.append(helper.make_node("ReduceSum", ["scaled"], ["total"], keepdims=0))
        outputs.insert(0, ("total", TensorProto.FLOAT, []))
    images = ("images", TensorProto.UINT8, ["batch", 8, 8, 3])
    return _save(path, nodes, [images], outputs, weights)


def adder(path: Path) -> Path:
    """Two float inputs of one free length: total = a + b, difference = a - b."""
    return _save(
        path,
        [
            helper.make_node("Add", ["a", "b"], ["total"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        [("a", TensorProto.FLOAT, ["n"]), ("b", TensorProto.FLOAT, ["n"])],
        [("total", TensorProto.FLOAT, ["n"]), ("difference", TensorProto.FLOAT, ["n"])],
    )


def identity(path: Path, kind=TensorProto.FLOAT, shape=("batch", 2)) -> Path:
    """Give the input back, in any element type."""
    return _save(
        path,
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", kind, list(shape))],
        [("y", kind, list(shape))],
    )


def batch_mean(path: Path) -> Path:
    """Subtract the batch's mean: rows that share a batch change each other's result."""
    return _save(
        path,
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 2])],
        [("y", TensorProto.FLOAT, ["batch", 2])],
    )


def kept(path: Path, axis: str) -> Path:
    """Drop the rows that are not above -1 everywhere; the output's first axis is named `axis`."""
    return _save(
        path,
        [
            helper.make_node("ReduceMin", ["x"], ["least"], axes=[1], keepdims=0),
            helper.make_node("Greater", ["least", "limit"], ["good"]),
            helper.make_node("Compress", ["x", "good"], ["y"], axis=0),
        ],
        [("x", TensorProto.FLOAT, ["batch", 2])],
        [("y", TensorProto.FLOAT, [axis, 2])],
        [("limit", np.array(-1, np.float32))],
    )


def lookup(path: Path, rows=4) -> Path:
    """Gather a row of a small table; an index past its end makes the runtime throw."""
    table = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    return _save(
        path,
        [helper.make_node("Gather", ["table", "index"], ["row"], axis=0)],
        [("index", TensorProto.INT64, ["batch"])],
        [("row", TensorProto.FLOAT, ["batch", 2])],
        [("table", table)],
    )
