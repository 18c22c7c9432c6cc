"""What torch's exporter writes in a roundabout way becomes the plain operator."""

from __future__ import annotations

import numpy as np
import pytest

from export.simplify import relu_before_pool, simplify
from tests.export.oracle import feeds, run_onnxruntime
from tests.export.sketch import Sketch


def _rewritten(sketch, rewrite):
    """Return the operators after `rewrite`, which must not change what the model computes."""
    model = sketch.model()
    inputs = feeds(model)
    before = run_onnxruntime(model, inputs)
    rewrite(model)
    for got, wanted in zip(run_onnxruntime(model, inputs), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    return [node.op_type for node in model.graph.node]


def _reshaped(*rest: int) -> Sketch:
    """Return (batch, 3, 4, 4) -> (batch, *rest), the target computed from the batch."""
    sketch = Sketch()
    x = sketch.input("batch", 3, 4, 4)
    batch = sketch.op("Shape", x, start=0, end=1)
    target = sketch.op("Concat", batch, sketch.constant(np.array(rest)), axis=0)
    sketch.output(sketch.op("Reshape", x, target))
    return sketch


def test_a_reshape_that_flattens_a_picture_is_flatten_and_its_target_goes():
    assert _rewritten(_reshaped(48), simplify) == ["Flatten"]


@pytest.mark.parametrize("rest", [(3, 16), (48, 1)])
def test_a_reshape_to_more_axes_stays(rest):
    assert _rewritten(_reshaped(*rest), simplify) == ["Shape", "Concat", "Reshape"]


def test_a_reshape_to_more_rows_stays():
    sketch = Sketch()
    x = sketch.input("batch", 3, 4, 4)
    sketch.output(sketch.op("Reshape", x, sketch.constant(np.array([-1, 16]))))
    assert _rewritten(sketch, simplify) == ["Reshape"]


def test_a_relu_goes_before_the_pool_that_it_alone_reads():
    sketch = Sketch()
    pooled = sketch.op("MaxPool", sketch.input("batch", 3, 4, 4), kernel_shape=[2, 2])
    sketch.output(sketch.op("Relu", pooled))
    assert _rewritten(sketch, relu_before_pool) == ["Relu", "MaxPool"]


def test_a_pool_that_others_read_stays_before_its_relu():
    sketch = Sketch()
    pooled = sketch.op("MaxPool", sketch.input("batch", 3, 4, 4), kernel_shape=[2, 2])
    sketch.output(sketch.op("Relu", pooled), pooled)
    assert _rewritten(sketch, relu_before_pool) == ["MaxPool", "Relu"]
