"""Padded first convolutions: the pixels enter them as the bytes that they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.graph_body import open_bodies
from export.precision.audit import check_integer
from export.precision.int8 import quantise
from export.precision.pixels import absorb_shift, float_detour
from export.runtime import optimised_session, run, unoptimised_session
from tests.export.classifiers import finished, planes_model, residual_model
from tests.export.networks import noise

PICTURES = noise(32)


def _absorbed(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    body = open_bodies(copy)[0]
    absorb_shift(body, next(node for node in body.nodes if node.op_type == "Cast"))
    onnx.checker.check_model(copy, full_check=True)
    return copy


@settings(max_examples=15)
@given(
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4).filter(any),
    strides=st.sampled_from([[1, 1], [2, 1], [2, 2]]),
    dilations=st.sampled_from([[1, 1], [2, 2]]),
)
def test_the_fourth_channel_is_exact_up_to_the_border(pads, strides, dilations):
    model = finished(planes_model(pads=pads, strides=strides, dilations=dilations))
    assert "Sub" in Counter(node.op_type for node in model.graph.node)
    moved = _absorbed(model)
    assert "Sub" not in Counter(node.op_type for node in moved.graph.node)
    feeds = {"images": PICTURES}
    exact, same = (run(unoptimised_session(m), feeds)[0] for m in (model, moved))
    np.testing.assert_allclose(same, exact, rtol=1e-4, atol=1e-4 * np.abs(exact).max())


def test_nothing_but_bytes_reaches_the_first_convolution():
    model = finished(planes_model(pads=[1] * 4))
    quantised = quantise(model, PICTURES)
    found = check_integer(quantised)
    assert found.in_integers[0] == "conv_0"
    assert not {"Cast", "Sub", "Mul"} & found.operators.keys()
    readers = [node for node in quantised.graph.node if node.op_type == "QuantizeLinear"]
    assert not any("images" in value for node in readers for value in node.input)
    assert float_detour(quantised) == ""
    exact, close = (run(optimised_session(m), {"images": PICTURES})[0] for m in (model, quantised))
    assert np.sqrt(((exact - close) ** 2).mean() / (exact**2).mean()) < 0.03


def test_an_unpadded_one_needs_no_fourth_channel():
    quantised = quantise(finished(residual_model()), PICTURES)
    assert "Pad" not in Counter(node.op_type for node in quantised.graph.node)
    assert float_detour(quantised) == ""


def test_a_grouped_first_convolution_keeps_its_float_nodes_and_that_is_told():
    quantised = quantise(finished(planes_model(pads=[1] * 4, group=3)), PICTURES)
    check_integer(quantised)
    assert "pass Sub in float" in float_detour(quantised)


def test_a_first_convolution_that_stays_in_float_stays_as_it_is():
    quantised = quantise(finished(planes_model(pads=[1] * 4)), PICTURES, keep_float=["conv_0"])
    operators = Counter(node.op_type for node in quantised.graph.node)
    assert (operators["Sub"], operators["Pad"]) == (1, 0)
    check_integer(quantised, ["conv_0"])


@pytest.mark.parametrize("group", [1, 3])
def test_the_model_that_came_in_is_left_as_it_was(group):
    model = finished(planes_model(pads=[1] * 4, group=group))
    before = model.SerializeToString()
    quantise(model, PICTURES)
    assert model.SerializeToString() == before
