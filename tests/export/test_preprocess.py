"""Pixels to logits: where the normalisation goes, and that it is exact wherever it goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from export.runtime import run, unoptimised_session
from flatfold.contract.card import INPUT_NAME
from tests.export.classifiers import SIDE, finished, planes_model
from tests.export.networks import CLASSES, MEAN, STD, card, noise
from tests.export.sketch import Sketch


def _operators(model):
    return Counter(node.op_type for node in model.graph.node)


def _check_exact(planes, model, given):
    """`planes` gets what the preprocessing should make, computed here in float64."""
    pixels = noise(5, SIDE)
    pixels[0], pixels[1] = 0, 255  # the border shows most where the picture is black or white
    normalised = ((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    logits = run(unoptimised_session(planes), {"x": normalised})[0] / given.temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    got = run(unoptimised_session(model), {INPUT_NAME: pixels})
    np.testing.assert_allclose(got[0], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], powers / powers.sum(1, keepdims=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"bias": True}, {"bias": False}, {"auto_pad": "VALID"}])
def test_without_padding_all_of_it_goes_into_the_first_convolution(settings):
    planes, given = planes_model(**settings), card()
    model = finished(planes)
    assert not {"Sub", "Mul", "Div"} & set(_operators(model))
    _check_exact(planes, model, given)


@pytest.mark.parametrize(
    "settings", [{"pads": [1, 1, 1, 1]}, {"pads": [0, 0, 0, 1]}, {"auto_pad": "SAME_UPPER"}]
)
def test_with_padding_the_shift_stays_a_node(settings):
    """The border is padded after the shift: folded, it would be another colour."""
    planes, given = planes_model(**settings), card()
    model = finished(planes)
    assert _operators(model)["Sub"] == 1
    assert _operators(model)["Mul"] == 0
    _check_exact(planes, model, given)


def test_with_padding_and_no_mean_nothing_stays():
    model = finished(planes_model(pads=[1] * 4), replace(card(), mean=(0.0, 0.0, 0.0)))
    assert not {"Sub", "Mul"} & set(_operators(model))


def test_a_grouped_convolution_takes_the_scale_alone():
    planes = planes_model(group=3)
    model = finished(planes)
    assert (_operators(model)["Sub"], _operators(model)["Mul"]) == (1, 0)
    _check_exact(planes, model, card())


def test_a_second_reader_of_the_pixels_sees_them_normalised():
    sketch = Sketch()
    x = sketch.input("batch", 3, SIDE, SIDE)
    pooled = [sketch.op("GlobalMaxPool", value) for value in (sketch.conv(x, 3, 7), x)]
    sketch.output(sketch.op("Flatten", sketch.op("Concat", *pooled, axis=1)))
    planes = sketch.model()
    model = finished(planes)
    assert (_operators(model)["Sub"], _operators(model)["Mul"]) == (1, 1)
    _check_exact(planes, model, card())


def test_a_weight_that_another_convolution_shares_stays_as_it_is():
    sketch = Sketch()
    x = sketch.input("batch", 3, SIDE, SIDE)
    weight = sketch.constant(sketch.normal(3, 3, 3, 3))
    for _ in range(2):
        x = sketch.op("Conv", x, weight)
    x = sketch.op("Flatten", sketch.op("GlobalMaxPool", x))
    sketch.output(sketch.op("Gemm", x, sketch.constant(sketch.normal(3, CLASSES))))
    planes = sketch.model()
    _check_exact(planes, finished(planes), card())


def test_the_temperature_goes_into_the_last_layer():
    planes = planes_model()
    assert _operators(finished(planes))["Div"] == 0
    assert card().temperature != 1


def test_a_network_that_ends_otherwise_gets_a_division():
    planes = planes_model(tail="Relu")
    model = finished(planes)
    assert _operators(model)["Div"] == 1
    _check_exact(planes, model, card())


def test_the_input_is_bytes_and_the_batch_is_free():
    (images,) = finished(planes_model()).graph.input
    sizes = [dim.dim_param or dim.dim_value for dim in images.type.tensor_type.shape.dim]
    assert (images.name, sizes) == ("images", ["batch", SIDE, SIDE, 3])
