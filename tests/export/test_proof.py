from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.proof import ProofError, prove
from flatfold.cli import main


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
