"""What the rules refuse, or bring to the right axis: cases in which a fold once went wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.folding import fold_model
from tests.export.checked import check
from tests.export.oracle import run_onnxruntime, worst_error
from tests.export.sketch import Sketch


def test_a_batch_norm_before_a_product_without_a_bias_stays():
    s = Sketch()
    normed = s.batch_norm(s.input("N", 4, 6), 4)
    s.output(s.op("MatMul", s.constant(s.normal(3, 4)), normed))
    check(s, left=1)


def test_a_batch_norm_before_a_product_goes_into_the_bias_behind_it():
    s = Sketch()
    normed = s.batch_norm(s.input("N", 4, 6), 4)
    product = s.op("MatMul", s.constant(s.normal(3, 4)), normed)
    s.output(s.op("Add", product, s.constant(s.normal(3, 1))))
    assert [node.op_type for node in check(s).graph.node] == ["MatMul", "Add"]


@pytest.mark.parametrize("length", [4, 7])
def test_one_number_added_before_a_linear_layer_goes_into_its_bias_by_feature(length):
    s = Sketch()
    shifted = s.op("Sub", s.input("N", length, 5), s.constant(0.5))
    product = s.op("MatMul", shifted, s.constant(s.normal(5, 4)))
    s.output(s.op("Add", product, s.constant(s.normal(4))))
    assert [node.op_type for node in check(s).graph.node] == ["MatMul", "Add"]


@pytest.mark.parametrize(("first", "then"), [("Mul", "Gemm"), ("Mul", "Mul"), ("Add", "Mul")])
def test_no_affine_crosses_zeros_padded_along_its_channels(first, then):
    s = Sketch()
    scaled = s.op(first, s.input("N", 2, 2, 2), s.constant(s.normal(1, 2, 1, 1)))
    padded = s.op("Pad", scaled, s.constant(np.array([0, 1, 0, 0, 0, 1, 0, 0])))
    if then == "Gemm":
        s.output(s.op("Gemm", s.op("Flatten", padded), s.constant(s.normal(16, 3))))
    else:
        s.output(s.op(then, padded, s.constant(s.normal(1, 4, 1, 1))))
    assert first in {node.op_type for node in check(s).graph.node}


def test_padding_of_named_axes_lets_a_batch_norm_through():
    s = Sketch(opset=18)
    pads, axes = s.constant(np.array([1, 1, 1, 1])), s.constant(np.array([-2, 3]))
    padded = s.op("Pad", s.conv(s.input("N", 3, 5, 5), 3, 4), pads, "", axes, mode="edge")
    s.output(s.batch_norm(padded, 4))
    assert [node.op_type for node in check(s).graph.node] == ["Conv", "Pad"]


def test_a_term_that_is_broadcast_over_the_channels_takes_none_of_their_scales():
    s = Sketch()
    product = s.op("MatMul", s.constant(s.normal(4, 3)), s.input(3, 5))
    wide = s.op("Reshape", product, s.constant(np.array([4, 1, 5])))
    s.output(s.batch_norm(s.op("Add", wide, s.constant(s.normal(1, 4, 1))), 4))
    check(s, left=1)


@pytest.mark.parametrize("attributes", [{"axes": [1]}, {}])
def test_one_factor_passes_a_mean_that_takes_axes_away(attributes):
    s = Sketch()
    mean = s.op(
        "ReduceMean",
        s.op("Gemm", s.input("N", 4), s.constant(s.normal(4, 3))),
        keepdims=0,
        **attributes,
    )
    s.output(s.op("Mul", mean, s.constant(2.0)))
    assert [node.op_type for node in check(s).graph.node] == ["Gemm", "ReduceMean"]


def test_a_mean_over_no_axes_keeps_the_channels():
    s = Sketch(opset=18)
    same = s.op("ReduceMean", s.conv(s.input("N", 3, 4, 4), 3, 4), keepdims=0)
    s.nodes[-1].attribute.append(onnx.helper.make_attribute("noop_with_empty_axes", 1))
    s.output(s.batch_norm(same, 4))
    check(s)


def test_factors_that_cancel_out_stay_where_others_read_the_value():
    s = Sketch()
    value, factor = s.op("Relu", s.input("N", 3)), s.constant(2.0)
    s.output(s.op("Mul", s.op("Div", value, factor), factor), value)
    check(s)


def _cast(source: int, target: int) -> list[str]:
    """Fold `scale -> Cast -> Conv` and return what is left."""
    s = Sketch(opset=22, dtype=onnx.helper.tensor_dtype_to_np_dtype(source))
    scaled = s.op("Mul", s.input("N", 3, 4, 4), s.constant(1e-4))
    s.dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(target))
    s.output(s.conv(s.op("Cast", scaled, to=target), 3, 4))
    folded, _ = fold_model(s.model())
    onnx.checker.check_model(folded, full_check=True)
    return [node.op_type for node in folded.graph.node]


def test_a_scale_stays_before_a_cast_to_a_narrower_type():
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert _cast(single, half) == ["Mul", "Cast", "Conv"]
    assert _cast(half, onnx.TensorProto.BFLOAT16) == ["Mul", "Cast", "Conv"]
    assert _cast(half, single) == ["Cast", "Conv"]


def test_five_outputs_mean_training_before_opset_14():
    s = Sketch(opset=9)
    convolved = s.conv(s.input("N", 3, 4, 4), 3, 4)
    outputs = s.op("BatchNormalization", convolved, *s.statistics(4), outputs=5)
    s.output(outputs[0])
    _, report = fold_model(s.model())
    assert "updates statistics" in report.kept[0].reason


def test_a_shift_left_beside_float16_values_is_float16():
    s = Sketch(dtype=np.float16)
    product = s.op("MatMul", s.constant(s.normal(4, 3)), s.input("N", 3, 5))
    s.output(s.op("BatchNormalization", product, *s.statistics(4, dtype=np.float32)))
    folded, report = fold_model(s.model())
    onnx.checker.check_model(folded, full_check=True)
    assert not report.kept
    assert {tensor.data_type for tensor in folded.graph.initializer} == {onnx.TensorProto.FLOAT16}


def test_filters_that_would_underflow_float16_stay():
    s = Sketch(dtype=np.float16)
    convolved = s.conv(s.input("N", 3, 4, 4), 3, 4)
    small = [s.constant(np.full(4, value)) for value in (1e-3, 0, 0, 6e4)]
    s.output(s.op("BatchNormalization", convolved, *small))
    _, report = fold_model(s.model())
    assert "underflows float16" in report.kept[0].reason


def test_the_default_epsilon_is_the_float32_one():
    s = Sketch(dtype=np.float64)
    convolved = s.op("Conv", s.input("N", 1, 4, 4), s.constant(np.ones((1, 1, 1, 1))))
    parameters = [s.constant(np.array([value])) for value in (1.0, 0.0, 0.0, 1e-6)]
    s.output(s.op("BatchNormalization", convolved, *parameters))
    folded, _ = fold_model(s.model())
    weight = onnx.numpy_helper.to_array(folded.graph.initializer[0]).item()
    assert weight == pytest.approx(1 / np.sqrt(1e-6 + float(np.float32(1e-5))), rel=1e-14)


def test_a_constant_of_one_axis_keeps_the_axis_that_it_gives_a_single_number():
    s = Sketch()
    product = s.op("Gemm", s.input(1, 3), s.constant(s.normal(3, 1)))
    number = s.op("Reshape", product, s.constant(np.array([], np.int64)))
    s.output(s.op("Mul", number, s.constant(s.normal(1))))
    check(s)


def test_a_reshape_that_copies_the_channels_axis_passes_whatever_is_behind_it():
    s = Sketch()
    convolved = s.conv(s.input("N", 3, "H", "W"), 3, 4)
    flat = s.op("Reshape", convolved, s.constant(np.array([0, 4, -1])))
    s.output(s.batch_norm(flat, 4))
    model = s.model()
    folded, report = fold_model(model)
    assert not report.kept
    given = {"x": s.normal(2, 3, 5, 6)}
    assert worst_error(run_onnxruntime(model, given), run_onnxruntime(folded, given)) < 1e-5


def test_a_reshape_of_unknown_sizes_is_not_accused_of_mixing_channels():
    s = Sketch()
    convolved = s.conv(s.input("N", 3, "H", "W"), 3, 4)
    s.output(s.batch_norm(s.op("Reshape", convolved, s.constant(np.array([-1, 4, 2]))), 4))
    _, report = fold_model(s.model())
    assert "may split or mix the channels" in report.kept[0].reason


def test_a_batch_norm_goes_into_all_that_follow_it():
    s = Sketch()
    normed = s.batch_norm(s.op("Relu", s.input("N", 3, 4, 4)), 3)
    s.output(s.batch_norm(normed, 3), s.batch_norm(normed, 3))
    check(s, left=2)


def test_arithmetic_goes_into_the_batch_norm_behind_it():
    s = Sketch()
    positive = s.op("Relu", s.input("N", 3, 4, 4))
    centred = s.op("Sub", positive, s.constant(s.normal(3, 1, 1)))
    s.output(s.batch_norm(s.op("Mul", centred, s.constant(s.normal(3, 1, 1))), 3))
    assert [node.op_type for node in check(s, left=1).graph.node] == ["Relu", "BatchNormalization"]


def test_a_batch_norm_in_training_takes_nothing_in():
    s = Sketch()
    normed = s.batch_norm(s.input("N", 3, 4, 4), 3)
    s.output(*s.op("BatchNormalization", normed, *s.statistics(3), outputs=3, training_mode=1))
    check(s, left=2)


def test_factors_that_cancel_out_between_an_input_and_an_output():
    s = Sketch()
    doubled = s.op("Mul", s.input("N", 3, 4, 4), s.constant(np.array(2.0)))
    half, zero, one = (s.constant(np.full(3, value)) for value in (0.5, 0.0, 1.0))
    s.output(s.op("BatchNormalization", doubled, half, zero, zero, one, epsilon=0.0))
    check(s, left=1)


def test_a_sparse_weight_stays_and_is_called_so():
    s = Sketch()
    s.output(s.batch_norm(s.op("Gemm", s.input("N", 3), s.constant(s.normal(3, 3))), 3))
    model = s.model()
    weight = model.graph.initializer[0]
    places = onnx.numpy_helper.from_array(np.arange(9))
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(weight, places, [3, 3]))
    del model.graph.initializer[0]
    _, report = fold_model(model)
    assert "is stored as a sparse tensor" in report.kept[0].reason


@pytest.mark.parametrize("simulated", [False, True])
def test_a_quantised_weight_stays_and_is_called_so(simulated):
    s = Sketch()
    step, zero = s.constant(np.float32(0.05)), s.constant(np.int8(0))
    if simulated:  # as training for quantisation writes it
        weight = s.op("QuantizeLinear", s.constant(s.normal(3, 2, 1, 1)), step, zero)
    else:
        weight = s.constant(np.ones((3, 2, 1, 1), np.int8))
    weight = s.op("DequantizeLinear", weight, step, zero)
    s.output(s.batch_norm(s.op("Conv", s.input("N", 2, 4, 4), weight), 3))
    _, report = fold_model(s.model())
    assert "is quantised, and stays so: fold the model first" in report.kept[0].reason
