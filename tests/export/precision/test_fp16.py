"""Half precision: what changes type, what does not, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.precision.fp16 import halve
from export.runtime import optimised_session, run
from flatfold.contract.errors import FlatfoldError
from tests.export.classifiers import finished, planes_model, residual_model
from tests.export.networks import noise


def test_every_weight_is_half_as_large_and_the_interface_is_the_same():
    model = finished(residual_model())
    half = halve(model)
    assert {tensor.data_type for tensor in half.graph.initializer} == {TensorProto.FLOAT16}
    assert list(half.graph.input) == list(model.graph.input)
    assert list(half.graph.output) == list(model.graph.output)
    assert half.ByteSize() < 0.6 * model.ByteSize()


@pytest.mark.parametrize("planes", [residual_model(), planes_model(pads=[1] * 4)])
def test_it_computes_the_same_to_three_digits(planes):
    model = finished(planes)
    pictures = {"images": noise(20)}
    exact, close = (run(optimised_session(m), pictures)[0] for m in (model, halve(model)))
    assert close.dtype == np.float32
    rms = np.sqrt((exact**2).mean())
    assert 0 < np.abs(exact - close).max() / rms < 2e-2


def test_the_model_that_came_in_is_left_as_it_was():
    model = finished(residual_model())
    before = model.SerializeToString()
    halve(model)
    assert model.SerializeToString() == before


def test_a_weight_past_the_largest_half_is_refused_by_name():
    model = finished(residual_model())
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = 70_000
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(FlatfoldError, match=rf"{tensor.name} has a value of 7e\+04"):
        halve(model)


def test_the_result_is_a_valid_model():
    onnx.checker.check_model(halve(finished(residual_model())), full_check=True)
