"""Small convolutional classifiers as ONNX graphs, written without PyTorch, which takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from export.preprocess import add_back, add_front
from tests.export.networks import CLASSES, card
from tests.export.sketch import Sketch

if TYPE_CHECKING:
    from flatfold.contract.card import Card

SIDE = 9


def planes_model(*, group: int = 1, bias: bool = True, tail: str = "", **attrs: Any) -> Any:
    """Return conv, ReLU, pool, linear: float (batch, 3, 9, 9) to logits (batch, 10)."""
    sketch = Sketch()
    x = sketch.input("batch", 3, SIDE, SIDE)
    x = sketch.op("Relu", sketch.conv(x, 3, 6, group=group, bias=bias, **attrs))
    x = sketch.op("Flatten", sketch.op("GlobalMaxPool", x))
    x = sketch.op(
        "Gemm", x, sketch.constant(sketch.normal(6, CLASSES)), sketch.constant(sketch.normal(10))
    )
    sketch.output(sketch.op(tail, x) if tail else x)
    return sketch.model()


def residual_model() -> onnx.ModelProto:
    """Return an unfolded network with a padded convolution, an addition and a pool."""
    sketch = Sketch()
    x = sketch.input("batch", 3, SIDE, SIDE)
    x = sketch.op("Relu", sketch.conv(x, 3, 16, (2, 2), bias=True))
    y = sketch.conv(x, 16, 16, bias=True, pads=[1, 1, 1, 1])
    x = sketch.op("Relu", sketch.op("Add", y, x))
    x = sketch.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = sketch.op("Flatten", sketch.op("GlobalMaxPool", x))
    x = sketch.op("Gemm", x, sketch.constant(0.05 * sketch.normal(16, CLASSES)))
    sketch.output(x)
    return sketch.model()


def finished(planes: onnx.ModelProto, given: Card | None = None) -> onnx.ModelProto:
    """Return a copy with pixels in and probabilities out."""
    model = onnx.ModelProto()
    model.CopyFrom(planes)
    del model.graph.value_info[:]
    add_front(model, given or card())
    add_back(model, given or card())
    onnx.checker.check_model(model, full_check=True)
    return model
