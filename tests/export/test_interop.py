"""Models of every opset, and those that the onnx package tests itself with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import version_converter
from onnx.backend.test.case.node import batch_normalization
from onnx.backend.test.loader import load_model_tests

from export.folding import fold_model
from tests.export.checked import check
from tests.export.oracle import feeds, run_onnxruntime, worst_error
from tests.export.sketch import Sketch


@pytest.mark.parametrize("opset", range(7, 27))
def test_every_opset(opset):
    s = Sketch(opset=opset)
    pooled = s.op("MaxPool", s.conv(s.input("N", 3, 8, 8), 3, 4), kernel_shape=[2, 2])
    normed = s.batch_norm(pooled, 4, gamma="positive")
    flat = s.op("Flatten", s.op("Relu", normed))
    product = s.op("Gemm", flat, s.constant(s.normal(100, 5)), s.constant(s.normal(5)))
    s.output(s.batch_norm(product, 5))
    check(s)


def _onnx_own() -> list[tuple[str, onnx.ModelProto]]:
    """Return the batch norm models that the onnx package tests itself with."""
    converted = [
        (case.name, version_converter.convert_version(_load(case), 9))  # stored as opset 6
        for case in load_model_tests(kind="pytorch-converted")
        if "BatchNorm" in case.name
    ]
    made: list[tuple[str, onnx.ModelProto]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            batch_normalization,
            "expect",
            lambda node, inputs, outputs, name, **_: made.append(
                (name, _model_of(node, inputs, outputs))
            ),
        )
        for export in ("export", "export_train"):
            getattr(batch_normalization.BatchNormalization, export)()
    return converted + made


def _load(case) -> onnx.ModelProto:
    return onnx.load(f"{case.model_dir}/model.onnx")


def _model_of(node, inputs, outputs) -> onnx.ModelProto:
    """Return a model of one node, whose first input runs and whose others are initializers."""
    values = [*zip(node.input, inputs, strict=True), *zip(node.output, outputs, strict=True)]
    infos = {
        name: onnx.helper.make_tensor_value_info(name, 1, list(value.shape))
        for name, value in values
    }
    weights = [
        onnx.numpy_helper.from_array(value, name)
        for name, value in zip(node.input[1:], inputs[1:], strict=True)
    ]
    graph = onnx.helper.make_graph(
        [node], "own", [infos[node.input[0]]], [infos[name] for name in node.output], weights
    )
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8
    )


ONNX_OWN = _onnx_own()
INFERRING = [(name, model) for name, model in ONNX_OWN if len(model.graph.node[0].output) == 1]


@pytest.mark.parametrize(("name", "model"), ONNX_OWN, ids=[name for name, _ in ONNX_OWN])
def test_onnx_own_models_keep_their_lone_batch_norm(name, model):
    folded, report = fold_model(model)
    (kept,) = report.kept
    training = model.graph.node[0].output[1:]
    assert ("training mode" if training else "of the graph") in kept.reason
    assert folded.graph.node == model.graph.node


@pytest.mark.parametrize(("name", "model"), INFERRING, ids=[name for name, _ in INFERRING])
def test_onnx_own_models_fold_behind_a_convolution(name, model):
    """Put a depthwise 1x1 convolution before each of them."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    (node,) = model.graph.node
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    weight = np.random.default_rng(0).standard_normal((shape[1], 1, *(1 for _ in shape[2:])))
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), "w"))
    if model.ir_version < 4:
        model.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, list(weight.shape)))
    conv = onnx.helper.make_node("Conv", [node.input[0], "w"], ["conv"], group=shape[1])
    node.input[0] = "conv"
    model.graph.node.insert(0, conv)
    folded, report = fold_model(model)
    assert len(report.folded) == 1
    onnx.checker.check_model(folded, full_check=True)
    inputs = feeds(model)
    assert worst_error(run_onnxruntime(model, inputs), run_onnxruntime(folded, inputs)) < 1e-5


def test_an_older_opset_is_kept_with_that_reason():
    (case,) = (
        c for c in load_model_tests(kind="pytorch-converted") if c.name == "test_BatchNorm2d_eval"
    )
    _, report = fold_model(_load(case))
    assert "opset 6; 7 is the oldest understood" in report.kept[0].reason


def test_onnx_own_models_are_there():
    assert len(ONNX_OWN) >= 7
