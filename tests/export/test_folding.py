"""Folding as a whole: random settings, chains of affine nodes, what the caller may rely on."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from export.folding import fold_model
from export.report import FoldRefusedError
from tests.export.checked import check
from tests.export.sketch import Sketch

QUICK = settings(max_examples=25)


@st.composite
def convolutions(draw):
    """Draw settings that fit together."""
    axes = draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 1, 2, 3]))
    return {
        "inputs": group * draw(st.integers(1, 3)),
        "outputs": group * draw(st.integers(1, 3)),
        "kernel": tuple(draw(st.integers(1, 3)) for _ in range(axes)),
        "group": group,
        "bias": draw(st.booleans()),
        "strides": [draw(st.integers(1, 2)) for _ in range(axes)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(axes)],
        "pads": [draw(st.integers(0, 2)) for _ in range(2 * axes)],
    }


@QUICK
@given(convolutions(), st.booleans(), st.sampled_from([1e-5, 1e-3, 0.1]), st.integers(0, 99))
def test_any_convolution_takes_its_batch_norm(conv, transpose, epsilon, seed):
    assume(not transpose or all(p < 2 for p in conv["pads"]))
    s = Sketch(seed=seed)
    x = s.input("N", conv["inputs"], *(7 for _ in conv["kernel"]))
    y = s.conv(x, transpose=transpose, **conv)
    s.output(s.batch_norm(y, conv["outputs"], epsilon=epsilon))
    assert [node.op_type for node in check(s).graph.node] == [s.nodes[0].op_type]


@QUICK
@given(convolutions(), st.integers(0, 99))
def test_a_batch_norm_before_any_convolution_folds_unless_padded(conv, seed):
    s = Sketch(seed=seed)
    x = s.input("N", conv["inputs"], *(7 for _ in conv["kernel"]))
    s.output(s.conv(s.batch_norm(x, conv["inputs"]), **conv))
    check(s, left=int(any(conv["pads"])))


@QUICK
@given(
    st.lists(st.sampled_from("bnmadsi"), min_size=1, max_size=5),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_chain_of_affine_nodes_folds(chain, channelwise, seed):
    s = Sketch(seed=seed)
    y = s.conv(s.input("N", 3, 6, 6), 3, 4, bias=True)
    for kind in chain:
        constant = s.constant(s.normal(*((4, 1, 1) if channelwise else ())) + 3)
        y = {
            "b": lambda y: s.batch_norm(y, 4),
            "n": lambda y: s.batch_norm(y, 4, gamma="plain"),
            "m": lambda y, c=constant: s.op("Mul", y, c),
            "a": lambda y, c=constant: s.op("Add", c, y),
            "d": lambda y, c=constant: s.op("Div", y, c),
            "s": lambda y, c=constant: s.op("Sub", c, y),
            "i": lambda y: s.op("Identity", s.op("Dropout", y)),
        }[kind](y)
    s.output(s.batch_norm(y, 4))
    assert sum(n.op_type in ("Mul", "Add", "Div", "Sub") for n in check(s).graph.node) == 0


def test_a_preprocessing_folds_into_an_unpadded_convolution():
    s = Sketch()
    x = s.op("Div", s.input("N", 3, 6, 6), s.constant(np.array(255.0)))
    x = s.op("Sub", x, s.constant(s.normal(1, 3, 1, 1)))
    x = s.op("Div", x, s.constant(s.random.uniform(0.2, 0.3, (1, 3, 1, 1))))
    s.output(s.conv(x, 3, 4))
    assert [node.op_type for node in check(s).graph.node] == ["Conv"]


def test_two_negative_scales_pass_a_maximum_together():
    s = Sketch()
    pooled = s.op("GlobalMaxPool", s.conv(s.input("N", 3, 6, 6), 3, 4))
    negative = s.op("Mul", pooled, s.constant(-np.ones((4, 1, 1))))
    parameters = s.statistics(4, gamma="positive")
    parameters[0] = s.constant(-s.random.uniform(1, 2, 4))
    s.output(s.op("BatchNormalization", negative, *parameters))
    assert [node.op_type for node in check(s).graph.node] == ["Conv", "GlobalMaxPool"]


def test_a_pixel_shuffle_of_plain_reshapes_is_followed():
    s = Sketch()
    x = s.conv(s.input(2, 3, 6, 6), 3, 12)
    x = s.op("Reshape", x, s.constant(np.array([2, 3, 2, 2, 4, 4])))
    x = s.op("Transpose", x, perm=[0, 1, 4, 2, 5, 3])
    x = s.op("Reshape", x, s.constant(np.array([2, 3, 8, 8])))
    s.output(s.batch_norm(x, 3))
    check(s)


def test_a_bias_behind_a_product_takes_the_shift():
    s = Sketch()
    product = s.op("MatMul", s.input("N", 6, 7), s.constant(s.normal(7, 5)))
    biased = s.op("Add", product, s.constant(s.normal(5)))
    s.output(s.batch_norm(s.op("Transpose", biased, perm=[0, 2, 1]), 5))
    assert [node.op_type for node in check(s).graph.node] == ["MatMul", "Add", "Transpose"]


def test_a_batch_norm_that_stays_takes_the_next_one_in():
    s = Sketch()
    s.output(s.op("Relu", s.batch_norm(s.batch_norm(s.input("N", 4, 6, 6), 4), 4)))
    check(s, left=1)


def test_one_batch_norm_folds_into_every_reader():
    s = Sketch()
    normed = s.batch_norm(s.input("N", 3, 6, 6), 3)
    s.output(s.conv(normed, 3, 4), s.conv(normed, 3, 5, (1, 1)))
    check(s)


def test_an_affine_of_integers_or_of_broadcasting_constants_is_left_alone():
    s = Sketch()
    conv = s.conv(s.input("N", 3, 6, 6), 3, 1)
    s.output(s.op("Mul", conv, s.constant(s.normal(1, 4, 1, 1))))  # 1 channel becomes 4
    assert [node.op_type for node in check(s).graph.node] == ["Conv", "Mul"]


@pytest.mark.parametrize(("mode", "left"), [("reflect", 0), ("edge", 0), ("constant", 1)])
def test_padding_with_the_pictures_own_values_is_passed(mode, left):
    s = Sketch()
    pads = s.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    padded = s.op("Pad", s.conv(s.input("N", 3, 6, 6), 3, 4), pads, mode=mode)
    s.output(s.batch_norm(padded, 4))
    check(s, left=left)


def test_a_scale_passes_a_padding_with_zeros():
    s = Sketch()
    pads = s.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    padded = s.op("Pad", s.conv(s.input("N", 3, 6, 6), 3, 4), pads)
    s.output(s.op("Mul", padded, s.constant(s.normal(4, 1, 1))))
    assert [node.op_type for node in check(s).graph.node] == ["Conv", "Pad"]


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation_is_passed(mode):
    s = Sketch()
    scales = s.constant(np.array([1, 1, 2, 2]), dtype=np.float32)
    resized = s.op("Resize", s.conv(s.input("N", 3, 6, 6), 3, 4), "", scales, mode=mode)
    s.output(s.batch_norm(resized, 4))
    check(s)


def test_a_mean_of_other_axes_is_passed_forward():
    s = Sketch()
    normed = s.batch_norm(s.op("Relu", s.input("N", 3, 6, 6)), 3)
    mean = s.op("ReduceMean", normed, axes=[2, 3], keepdims=0)
    s.output(s.op("Gemm", mean, s.constant(s.normal(3, 5)), s.constant(s.normal(5))))
    check(s)


def test_one_padded_reader_keeps_a_batch_norm_whole():
    s = Sketch()
    normed = s.batch_norm(s.op("Relu", s.input("N", 3, 6, 6)), 3)
    s.output(s.conv(normed, 3, 4), s.conv(normed, 3, 4, pads=[1] * 4))
    check(s, left=1)


def test_names_that_callers_know_stay():
    s = Sketch()
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6, 6), 3, 4), 4))
    model = s.model()
    folded, _ = fold_model(model)
    assert [i.name for i in folded.graph.input] == [i.name for i in model.graph.input]
    assert [o.name for o in folded.graph.output] == [o.name for o in model.graph.output]
    assert {i.name for i in folded.graph.initializer} == {
        name for node in folded.graph.node for name in node.input
    } - {"x"}


def test_an_initializer_that_is_an_input_is_no_constant():
    s = Sketch()
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6, 6), 3, 4), 4))
    model = s.model()
    scale = model.graph.node[1].input[1]
    model.graph.input.append(onnx.helper.make_tensor_value_info(scale, 1, [4]))
    folded, report = fold_model(model)
    assert len(report.kept) == 1
    assert f"{scale!r} is only a default" in report.kept[0].reason
    assert "take it out of the inputs" in report.kept[0].reason
    assert scale in {i.name for i in folded.graph.input}


def test_merging_can_be_switched_off():
    s = Sketch()
    x = s.op("Relu", s.input("N", 4, 6, 6))
    three = s.batch_norm(s.conv(x, 4, 4, pads=[1] * 4), 4)
    s.output(s.op("Add", three, s.batch_norm(s.conv(x, 4, 4, (1, 1)), 4)))
    model = s.model()
    assert len(fold_model(model)[1].merges) == 1
    folded, report = fold_model(model, merge_branches=False)
    assert report.merges == ()
    assert [n.op_type for n in folded.graph.node] == ["Relu", "Conv", "Conv", "Add"]


def test_a_refusal_names_the_node_and_leaves_the_input():
    s = Sketch()
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    parameters = s.statistics(4)
    parameters[1] = s.constant(np.array([0, np.nan, 0, 0]))
    s.output(s.op("BatchNormalization", conv, *parameters, name="stage1.bn"))
    model = s.model()
    before = model.SerializeToString()
    with pytest.raises(FoldRefusedError, match=r"stage1\.bn .*bias\[1\] is nan"):
        fold_model(model)
    assert model.SerializeToString() == before


def test_a_model_as_deep_as_any_folds():
    s = Sketch()
    value = s.input("N", 2, 4, 4)
    for _ in range(400):
        value = s.op("Relu", s.batch_norm(s.conv(value, 2, 2, (1, 1)), 2, gamma="plain"))
    pooled = s.op("Flatten", s.op("GlobalAveragePool", value))
    s.output(s.op("MatMul", pooled, s.constant(s.normal(2, 3))))
    _, report = fold_model(s.model())
    assert len(report.verdicts) == 400
    assert not report.kept


@pytest.mark.parametrize("transpose", [False, True])
def test_one_fold_does_all_that_two_would(transpose):
    s = Sketch()
    normed = s.batch_norm(s.input("N", 3, 4, 4), 3)
    same = {} if transpose else {"auto_pad": "SAME_UPPER"}
    convolved = s.conv(normed, 3, 4, (1, 1), transpose=transpose, **same)
    s.output(s.op("Mul", convolved, s.constant(s.normal(4, 1, 1))))
    once = check(s)
    assert fold_model(once)[0].SerializeToString() == once.SerializeToString()


def test_a_sum_that_loses_its_widest_term_has_another_shape():
    s = Sketch()
    x = s.input(2, 3, 4, 4)
    inner = s.op("Add", s.op("GlobalAveragePool", x), s.conv(x, 3, 3, (1, 1)))
    s.output(s.op("Add", inner, s.conv(x, 3, 3, pads=[1] * 4)))
    model = onnx.shape_inference.infer_shapes(s.model())
    folded, report = fold_model(model)
    assert len(report.merges) == 1
    onnx.checker.check_model(folded, full_check=True)


def test_the_shift_that_a_product_left_and_a_later_one_took_is_told_of_no_more():
    s = Sketch()
    turned = s.op(
        "Transpose", s.op("MatMul", s.input("N", 6, 4), s.constant(s.normal(4, 5))), perm=[0, 2, 1]
    )
    back = s.op("Transpose", s.batch_norm(turned, 5), perm=[0, 2, 1])
    s.output(s.op("Add", s.op("MatMul", back, s.constant(s.normal(5, 3))), s.constant(s.normal(3))))
    folded, report = fold_model(s.model())
    assert "Add" not in report.verdicts[0].rule
    assert report.absorbed == ()
    assert sum(node.op_type == "Add" for node in folded.graph.node) == 1


def test_a_factor_that_leaves_with_the_batch_norm_behind_it_is_told():
    s = Sketch()
    pooled = s.op("MaxPool", s.conv(s.input("N", 3, 4, 4), 3, 3, (1, 1)), kernel_shape=[2, 2])
    negative = s.op("Mul", pooled, s.constant(-abs(s.normal(3, 1, 1)) - 0.1))
    _, *rest = s.statistics(3)
    minus = s.constant(np.full(3, -1.0))
    s.output(s.op("BatchNormalization", negative, minus, *rest))
    _, report = fold_model(s.model())
    assert report.absorbed == ("mul_0",)


def test_a_body_that_nothing_runs_has_no_verdict():
    inner = Sketch()
    inner.output(inner.batch_norm("x", 3))
    branch = inner.model().graph
    s = Sketch()
    x = s.input("N", 3, 4, 4)
    which = s.input(name="which", element=onnx.TensorProto.BOOL)
    s.op("If", which, then_branch=branch, else_branch=branch)
    s.output(s.batch_norm(s.conv(x, 3, 3), 3))
    folded, report = fold_model(s.model())
    assert [verdict.verdict for verdict in report.verdicts] == ["folded"]
    assert [node.op_type for node in folded.graph.node] == ["Conv"]
