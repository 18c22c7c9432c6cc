"""The table of layers: sizes, parameters and multiplications, counted by hand."""

from __future__ import annotations

import onnx

from export.layers import layers
from export.precision.int8 import quantise
from tests.export.classifiers import finished, planes_model, residual_model
from tests.export.networks import noise
from tests.export.sketch import Sketch


def _by_operator(model):
    return {layer.operator: layer for layer in layers(model)}


def test_a_convolution():
    layer = _by_operator(planes_model())["Conv"]
    assert layer.output == (6, 7, 7)
    assert layer.parameters == 6 * 3 * 9 + 6
    assert layer.macs == 6 * 3 * 9 * 7 * 7


def test_groups_divide_the_work():
    layer = _by_operator(planes_model(group=3))["Conv"]
    assert layer.macs == 6 * 1 * 9 * 7 * 7


def test_a_matrix_product():
    layer = _by_operator(planes_model())["Gemm"]
    assert (layer.output, layer.parameters, layer.macs) == ((10,), 6 * 10 + 10, 60)


def test_what_multiplies_nothing_has_none():
    table = _by_operator(planes_model())
    assert all(table[name].macs == 0 for name in ("Relu", "GlobalMaxPool", "Flatten"))


def test_quantised_weights_count_at_the_layer_that_reads_them():
    plain = finished(residual_model())
    quantised = quantise(plain, noise(8))
    before, after = layers(plain), layers(quantised)
    assert sum(layer.macs for layer in before) == sum(layer.macs for layer in after)
    work = [[layer.parameters for layer in table if layer.macs] for table in (before, after)]
    assert work[0] == work[1]


def test_sizes_that_nobody_knows_are_minus_one_and_count_no_work():
    sketch = Sketch()
    sketch.output(sketch.conv(sketch.input("batch", 3, "height", "width"), 3, 4))
    (layer,) = layers(sketch.model())
    assert layer.output == (4, -1, -1)
    assert layer.macs == 0


def test_constant_nodes_count_as_parameters_and_not_as_layers():
    sketch = Sketch()
    sketch.parameters_as_nodes = True
    sketch.output(sketch.conv(sketch.input("batch", 3, 9, 9), 3, 4))
    (layer,) = layers(sketch.model())
    assert layer.parameters == 4 * 3 * 9


def test_foreign_operators_carry_their_domain():
    model = planes_model()
    model.opset_import.add(domain="com.microsoft", version=1)
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Gelu", "com.microsoft"
    assert "com.microsoft.Gelu" in _by_operator(model)


def test_an_operator_without_an_output_is_a_layer_as_well():
    model = planes_model()
    model.graph.node.append(onnx.helper.make_node("Print", ["images"], [], domain="my"))
    assert _by_operator(model)["my.Print"].output == ()
