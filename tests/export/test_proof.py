from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.comparison import ProofError
from export.folding import fold_model
from export.proof import TOLERANCES, prove
from flatfold.cli import main
from tests.export.sketch import Sketch


def linear(weight: np.ndarray, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A matrix product of a dynamic batch, logits out."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", dtype, ["n", len(weight)])],
        [helper.make_tensor_value_info("logits", dtype, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


WEIGHT = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def test_the_same_model_agrees_exactly():
    proof = prove(linear(WEIGHT), linear(WEIGHT), samples=40)
    assert proof.samples == 40
    assert proof.worst.error == 0
    assert proof.top1_agreement == 1
    assert json.loads(json.dumps(proof.to_dict()))["holds"] is True


def test_one_wrong_channel_fails_and_its_flips_are_listed_with_margins():
    wrong = WEIGHT.copy()
    wrong[:, 2] *= -1
    with pytest.raises(ProofError, match="something else") as caught:
        prove(linear(WEIGHT), linear(wrong))
    proof = caught.value.proof
    assert proof.worst.channel == 2
    assert proof.flips
    assert all(flip.margin > 0 and 2 in {flip.before, flip.after} for flip in proof.flips)


def test_a_small_channel_cannot_hide_behind_large_ones():
    scaled = WEIGHT * np.array([1e6, 1e6, 1e-3, 1e6], np.float32)
    wrong = scaled.copy()
    wrong[:, 2] *= 1.01
    with pytest.raises(ProofError, match="channel 2"):
        prove(linear(scaled), linear(wrong))


def test_other_inputs_and_outputs_are_told():
    other = linear(WEIGHT)
    other.graph.node[0].input[0] = other.graph.input[0].name = "pixels"
    with pytest.raises(ProofError, match="the inputs differ"):
        prove(linear(WEIGHT), other)


def test_the_tolerance_follows_the_number_type_also_of_a_file(tmp_path):
    half = linear(WEIGHT.astype(np.float16), TensorProto.FLOAT16)
    onnx.save(half, tmp_path / "half.onnx")
    for model in (half, tmp_path / "half.onnx"):
        assert prove(model, model, samples=2).tolerance == 2e-2
    assert prove(linear(WEIGHT), linear(WEIGHT), samples=2).tolerance == 1e-5


def test_verify_says_yes_with_figures_and_no_with_an_error(tmp_path, capsys):
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    onnx.save(linear(WEIGHT), right)
    onnx.save(linear(WEIGHT + 1), wrong)
    assert main(["verify", str(right), str(right), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True
    assert main(["verify", str(right), str(wrong)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("flatfold: error: the changed model computes something else")
    assert error.count("\n") == 1
    (tmp_path / "text.onnx").write_text("hello")
    assert main(["verify", str(right), str(tmp_path / "text.onnx")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def cancelling() -> onnx.ModelProto:
    """Conv -> MaxPool -> BN whose mean takes away a large bias: float32 rounds it to 3e-5."""
    s = Sketch()
    bias = s.constant(np.full(4, 1000.0))
    x = s.op("Conv", s.input("N", 3, 6, 6), s.constant(s.normal(4, 3, 3, 3) / 5), bias)
    ones, beta = s.constant(np.ones(4)), s.constant(s.normal(4))
    mean = s.constant(np.full(4, 1000.0), name="mean")
    pooled = s.op("MaxPool", x, kernel_shape=[2, 2])
    s.output(s.op("BatchNormalization", pooled, ones, beta, mean, ones))
    return s.model()


def test_the_rounding_of_the_original_is_no_fault_of_an_exact_fold():
    original = cancelling()
    folded, report = fold_model(original)
    assert report.folded
    proof = prove(original, folded)
    assert proof.holds
    assert proof.tolerance < proof.worst.error < proof.worst.allowed


def test_a_channel_that_lives_in_a_late_row_alone_is_allowed_its_rounding_too():
    """The first rows, which are run in float64, say nothing of it."""
    s = Sketch()
    bias, ones = s.constant(np.full(32, 30.0)), s.constant(np.ones(32))
    x = s.op("Conv", s.input("N", 3, 1, 1), s.constant(s.normal(32, 3, 1, 1)), bias)
    mean, beta = s.constant(np.full(32, 30.0)), s.constant(np.full(32, -3.0))
    s.output(s.op("Relu", s.op("BatchNormalization", x, ones, beta, mean, ones)))
    original = s.model()
    folded, _ = fold_model(original)
    assert prove(original, folded).worst.allowed > TOLERANCES["float32"]


def test_rounding_hides_no_wrong_fold():
    original = cancelling()
    folded, _ = fold_model(original)
    (bias,) = (t for t in folded.graph.initializer if list(t.dims) == [4])
    moved = numpy_helper.to_array(bias) + np.float32(5e-5)
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    with pytest.raises(ProofError, match="in float64, too"):
        prove(original, folded)


def test_weights_in_nodes_are_of_a_type_as_well():
    model = linear(WEIGHT.astype(np.float16), TensorProto.FLOAT16)
    tensor = model.graph.initializer.pop()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    model.graph.node.append(helper.make_node("Cast", ["half"], ["logits"], to=TensorProto.FLOAT))
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16))
    model.graph.node[2].input[0], model.graph.node[2].output[0] = "x16", "half"
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.elem_type = TensorProto.FLOAT
    assert prove(model, model).worst.allowed == TOLERANCES["float16"]


def test_a_changed_model_that_refuses_the_inputs_is_the_one_that_is_blamed():
    fixed = linear(WEIGHT)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    with pytest.raises(ProofError, match=r"the changed model refuses .* Got: 16 Expected: 4"):
        prove(linear(WEIGHT), fixed)


def test_outputs_of_another_number_type_are_not_the_same():
    def cast(to: int) -> onnx.ModelProto:
        model = linear(WEIGHT)
        model.graph.node.append(helper.make_node("Cast", ["product"], ["logits"], to=to))
        model.graph.node[0].output[0] = "product"
        model.graph.output[0].type.tensor_type.elem_type = to
        return model

    with pytest.raises(ProofError, match="'logits' is of float64 values, the original's of float3"):
        prove(cast(TensorProto.FLOAT), cast(TensorProto.DOUBLE))


def test_an_error_that_shows_on_negative_bytes_alone_is_found():
    def read(*between: str) -> onnx.ModelProto:
        s = Sketch()
        x = s.op("Cast", s.input("N", 8, element=TensorProto.INT8), to=TensorProto.FLOAT)
        for operator in between:
            x = s.op(operator, x)
        s.output(s.op("MatMul", x, s.constant(s.normal(8, 4))))
        return s.model()

    assert prove(read(), read()).holds
    with pytest.raises(ProofError, match="something else"):
        prove(read(), read("Abs"))


def found(threshold: float) -> onnx.ModelProto:
    """Linear -> the places above a threshold, and the columns as a sequence of two."""
    s = Sketch()
    y = s.op("MatMul", s.input("N", 8), s.constant(s.normal(8, 4)))
    places = s.op("NonZero", s.op("Greater", y, s.constant(np.float32(threshold))))
    parts = s.op("SplitToSequence", y, s.constant(np.array([1, 3])), axis=1)
    s.outputs.append(helper.make_tensor_value_info(places, TensorProto.INT64, [2, None]))
    s.outputs.append(helper.make_tensor_sequence_value_info(parts, TensorProto.FLOAT, None))
    graph = helper.make_graph(s.nodes, "found", s.inputs, s.outputs, s.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_outputs_of_another_size_for_each_run_and_sequences_are_compared():
    assert prove(found(0.0), found(0.0)).holds
    with pytest.raises(ProofError, match="'nonzero_0_out, run 0' has the shape"):
        prove(found(0.0), found(0.5))
    scaled = found(0.0)
    weight = scaled.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.0001, weight.name))
    with pytest.raises(ProofError, match="splittosequence_0_out"):
        prove(found(0.0), scaled)


def quantised(shift: float = 0.0) -> onnx.ModelProto:
    """Conv -> BN -> QuantizeLinear -> DequantizeLinear, 20 steps a deviation, of opset 17."""
    s = Sketch()
    x = s.op("Conv", s.input("N", 3, 32, 32), s.constant(s.normal(6, 3, 3, 3) / 5))
    gamma, *rest = s.statistics(6)
    moved = s.op("BatchNormalization", x, gamma, *rest)
    step, zero = s.constant(np.float32(0.05)), s.constant(np.uint8(128))
    beta = next(t for t in s.initializers if t.name == rest[0])
    beta.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(beta) + np.float32(shift), rest[0]))
    rounded = s.op("QuantizeLinear", moved, step, zero)
    s.output(s.op("DequantizeLinear", rounded, step, zero))
    return s.model()


def test_values_halfway_between_two_steps_refuse_no_quantised_model():
    """One value of a million lies so near halfway that rounding decides on its side."""
    original = quantised()
    folded, report = fold_model(original)
    assert report.folded
    proof = prove(original, folded, samples=256)
    assert proof.worst.peak > 100 * TOLERANCES["float32"]


def test_a_shift_of_a_hundredth_of_a_step_is_no_rounding():
    folded, _ = fold_model(quantised(5e-4))
    with pytest.raises(ProofError, match="in float64, too"):
        prove(quantised(), folded)
