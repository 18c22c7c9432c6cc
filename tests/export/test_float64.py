"""Float32 models in float64: as onnx's reference evaluator computes them, only sooner."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from export.float64 import run_float64, widened
from tests.export.sketch import Sketch

SETTINGS = {
    "Conv": {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]},
    "MaxPool": {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    "AveragePool": {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
}


def _model(kind: str, **more: int) -> onnx.ModelProto:
    s = Sketch()
    x = s.input("N", 4, 9, 8)
    weights = [s.constant(s.normal(6, 2, 3, 2)), s.constant(s.normal(6))] if kind == "Conv" else []
    s.output(s.op(kind, x, *weights, **SETTINGS[kind], **more))
    return s.model()


@pytest.mark.parametrize(
    ("kind", "more"),
    [("Conv", {}), ("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})],
)
def test_windows_are_those_of_the_reference(kind: str, more: dict[str, int]):
    model = _model(kind, **more)
    x = np.random.default_rng(0).standard_normal((2, 4, 9, 8)).astype(np.float32)
    found = run_float64(model, {"x": x})
    assert found is not None
    (values,) = found.values()
    (wanted,) = ReferenceEvaluator(widened(model)).run(None, {"x": x.astype(np.float64)})
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-12)


def test_a_cast_to_float32_does_not_narrow():
    s = Sketch()
    s.output(s.op("Cast", s.input("N", 4), to=onnx.TensorProto.FLOAT))
    x = np.full((1, 4), 1 / 3, np.float32)
    found = run_float64(s.model(), {"x": x})
    assert found is not None
    assert next(iter(found.values())).dtype == np.float64


def test_what_cannot_be_computed_gives_none():
    assert run_float64(_model("MaxPool", ceil_mode=1), {"x": np.ones((1, 4, 9, 8))}) is None
