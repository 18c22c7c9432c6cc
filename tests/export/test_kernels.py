from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.kernels import Branch, UnmergeableError, merged, pointwise
from tests.export.checked import check
from tests.export.oracle import run_onnxruntime
from tests.export.sketch import Sketch

RANDOM = np.random.default_rng(5)


def _branch(kernel, pads, *, outputs=4, inputs=4, strides=None, dilations=None, groups=1) -> Branch:
    axes = len(kernel)
    return Branch(
        "conv",
        RANDOM.standard_normal((outputs, inputs // groups, *kernel)),
        RANDOM.standard_normal(outputs),
        tuple(pads[:axes]),
        tuple(pads[axes:]),
        tuple(strides or (1,) * axes),
        tuple(dilations or (1,) * axes),
        groups,
    )


def _run(branch: Branch, x: np.ndarray) -> np.ndarray:
    s = Sketch()
    weight, bias = s.constant(branch.weight), s.constant(branch.bias)
    s.output(
        s.op(
            "Conv",
            s.input(*x.shape),
            weight,
            bias,
            pads=[*branch.pads_begin, *branch.pads_end],
            strides=list(branch.strides),
            dilations=list(branch.dilations),
            group=branch.groups,
        )
    )
    return run_onnxruntime(s.model(), {"x": x.astype(np.float32)})[0]


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 2), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4]))
def test_a_large_and_a_small_kernel_become_one(half, dilation, stride, groups):
    """Kernels of 2 half + 1 and of 1 tap, "same" padding, strided, dilated, grouped."""
    size = 2 * half + 1
    pads = [half * dilation] * 4
    common = {"strides": (stride,) * 2, "groups": groups}
    large = _branch((size, size), pads, dilations=(dilation,) * 2, **common)
    small = _branch((1, 1), [0] * 4, **common)
    x = RANDOM.standard_normal((2, 4, 9, 8))
    both = merged([large, small])
    assert both.kernel == (size, size)
    np.testing.assert_allclose(_run(both, x), _run(large, x) + _run(small, x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_an_affine_is_a_kernel_of_one_tap(groups):
    like = _branch((3, 3), [1] * 4, groups=groups)
    scale, shift = RANDOM.standard_normal((2, 4))
    x = RANDOM.standard_normal((2, 4, 6, 6))
    wanted = scale.reshape(4, 1, 1) * x + shift.reshape(4, 1, 1)
    np.testing.assert_allclose(_run(pointwise("bn", scale, shift, like), x), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (_branch((3, 3), [1] * 4, strides=(2, 2)), "stride"),
        (_branch((3, 3), [1] * 4, groups=2), "groups"),
        (_branch((3, 3), [0] * 4), "differ in size"),
        (_branch((3, 3), [2] * 4, dilations=(2, 2)), "dilation"),
    ],
)
def test_what_does_not_fit_is_refused(other, words):
    with pytest.raises(UnmergeableError, match=words):
        merged([_branch((3, 3), [1] * 4), other])


def test_a_cross_alone_would_cost_more_and_stays():
    wide, tall = _branch((1, 5), [0, 2, 0, 2]), _branch((5, 1), [2, 0, 2, 0])
    with pytest.raises(UnmergeableError, match="cost more"):
        merged([wide, tall])


def test_a_stride_or_another_width_allows_no_identity():
    ones, zeros = np.ones(1), np.zeros(1)
    with pytest.raises(UnmergeableError, match="keep the size"):
        pointwise("x", ones, zeros, _branch((3, 3), [1] * 4, strides=(2, 2)))
    with pytest.raises(UnmergeableError, match="keep the size"):
        pointwise("x", ones, zeros, _branch((3, 3), [1] * 4, outputs=8))


def test_a_skip_from_elsewhere_stays_in_the_sum():
    s = Sketch()
    x = s.op("Relu", s.input("N", 4, 6, 6))
    three, one = s.conv(x, 4, 4, pads=[1] * 4), s.conv(x, 4, 4, (1, 1))
    elsewhere = s.op("Sigmoid", x)
    s.output(s.op("Sum", three, elsewhere, one, x))
    assert sorted(node.op_type for node in check(s).graph.node) == [
        "Conv", "Relu", "Sigmoid", "Sum",
    ]  # fmt: skip


def test_a_branch_that_something_else_reads_stays():
    s = Sketch()
    x = s.op("Relu", s.input("N", 4, 6, 6))
    three, one = s.conv(x, 4, 4, pads=[1] * 4), s.conv(x, 4, 4, (1, 1))
    s.output(s.op("Add", three, one), s.op("Relu", one))
    folded = check(s)
    assert sum(node.op_type == "Conv" for node in folded.graph.node) == 2
    onnx.checker.check_model(folded)
