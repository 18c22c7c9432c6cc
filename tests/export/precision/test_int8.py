"""Quantised models: what is stored in bytes, how weights are rounded, how near the result is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from export.precision.audit import AuditError, audit, check_integer
from export.precision.cpu import has_dot_products
from export.precision.int8 import quantise
from export.runtime import optimised_session, run
from tests.export.classifiers import finished, residual_model
from tests.export.networks import noise

MODEL = finished(residual_model())
PICTURES = noise(64)


@pytest.fixture(scope="module")
def quantised():
    return quantise(MODEL, PICTURES, reduced_range=not has_dot_products())


def _weights(model):
    """Return what convolutions and products read, by the name of its DequantizeLinear."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        node.name: (values[node.input[0]], values[node.input[1]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in values
    }


def test_onnxruntime_runs_no_convolution_addition_or_product_in_float(quantised):
    found = check_integer(quantised)
    assert found.in_float == ()
    assert found.operators["QLinearConv"] == 2
    assert found.operators["QLinearAdd"] == 1


def test_the_pixels_enter_the_first_convolution_as_the_bytes_that_they_are(quantised):
    """No detour: nothing quantises or casts between the picture and the first QLinearConv."""
    operators = audit(quantised).operators
    assert "Cast" not in operators
    readers = [n for n in quantised.graph.node if n.op_type == "QuantizeLinear"]
    assert not any("images" in value for node in readers for value in node.input)


def test_weights_are_signed_bytes_with_a_scale_for_each_output_channel(quantised):
    weights = {name: pair for name, pair in _weights(quantised).items() if "weight" in name}
    assert len(weights) == 3
    for values, scales in weights.values():
        assert values.dtype == np.int8
        axis = 0 if values.ndim == 4 else 1
        assert scales.shape == (values.shape[axis],)
        others = tuple(other for other in range(values.ndim) if other != axis)
        assert (np.abs(values.astype(int)).max(axis=others) == 127).all()


def test_biases_are_int32_at_the_product_of_the_scales(quantised):
    biases = [pair for name, pair in _weights(quantised).items() if "bias" in name]
    assert len(biases) == 2
    assert all(values.dtype == np.int32 for values, _ in biases)


def test_the_reduced_range_leaves_a_bit_unused():
    """Two products of 8-bit weights overflow the 16-bit sums of processors without VNNI."""
    weights = _weights(quantise(MODEL, PICTURES, reduced_range=True))
    largest = [
        int(abs(v.astype(int)).max()) for name, (v, _) in weights.items() if "weight" in name
    ]
    assert largest == [63] * 3


def test_activations_are_unsigned_bytes(quantised):
    zeros = {t.name: t for t in quantised.graph.initializer}
    pairs = [n for n in quantised.graph.node if n.op_type == "QuantizeLinear"]
    assert pairs
    assert {zeros[node.input[2]].data_type for node in pairs} == {TensorProto.UINT8}


def test_a_relu_is_what_the_saturation_does(quantised):
    assert "Relu" not in Counter(node.op_type for node in quantised.graph.node)


def test_it_computes_nearly_the_same(quantised):
    exact, close = (run(optimised_session(m), {"images": PICTURES})[0] for m in (MODEL, quantised))
    assert np.sqrt(((exact - close) ** 2).mean() / (exact**2).mean()) < 0.1
    assert close.dtype == np.float32


def test_an_unquantised_model_does_not_pass_the_audit():
    with pytest.raises(AuditError, match="nothing was written"):
        check_integer(MODEL)


def test_the_same_pictures_give_the_same_bytes(quantised):
    again = quantise(MODEL, PICTURES, reduced_range=not has_dot_products())
    assert again.SerializeToString(deterministic=True) == quantised.SerializeToString(
        deterministic=True
    )


def test_the_model_that_came_in_is_left_as_it_was():
    before = MODEL.SerializeToString()
    quantise(MODEL, PICTURES)
    assert MODEL.SerializeToString() == before


def test_a_channel_of_zero_weights_gives_no_division_by_zero():
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    tensor = next(t for t in model.graph.initializer if len(t.dims) == 4)
    values = numpy_helper.to_array(tensor).copy()
    values[0] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    logits = run(optimised_session(quantise(model, PICTURES)), {"images": PICTURES})[0]
    assert np.isfinite(logits).all()
