from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from export import algebra
from export.algebra import Affine, DegenerateStatisticsError, absorb_after, absorb_before, rounded
from export.folding import fold_model
from tests.export.oracle import feeds, run_onnxruntime, worst_error
from tests.export.patterns import patterns

RANDOM = np.random.default_rng(3)


def _statistics(channels: int = 4) -> dict[str, np.ndarray]:
    gamma, beta, mean = RANDOM.standard_normal((3, channels))
    return {
        "gamma": gamma,
        "beta": beta,
        "mean": mean,
        "variance": RANDOM.uniform(0.3, 2, channels),
    }


def _affine(channels: int = 4) -> Affine:
    return Affine.of(*RANDOM.standard_normal((2, channels)))


def _linear(weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Apply (groups, outputs, inputs, taps) to x of (groups, inputs, taps), one loop an axis."""
    groups, outputs, inputs, taps = weight.shape
    y = bias.copy()
    for g in range(groups):
        for o in range(outputs):
            for i in range(inputs):
                for k in range(taps):
                    y[g * outputs + o] += weight[g, o, i, k] * x[g, i, k]
    return y


def test_batch_norm_is_the_papers_formula():
    s = _statistics()
    x = RANDOM.standard_normal(4)
    affine = Affine.of_batch_norm(**s, epsilon=0.1)
    for c in range(4):
        deviation = np.sqrt(s["variance"][c] + 0.1)
        wanted = s["gamma"][c] * (x[c] - s["mean"][c]) / deviation + s["beta"][c]
        assert affine.scale[c] * x[c] + affine.shift[c] == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize(
    ("name", "value", "epsilon", "words"),
    [
        ("gamma", np.nan, 1e-5, r"scale\[2\] is nan"),
        ("beta", np.inf, 1e-5, r"bias\[2\] is inf"),
        ("mean", -np.inf, 1e-5, r"mean\[2\] is -inf"),
        ("variance", -0.5, 1.0, r"variance\[2\] is negative: -0.5"),
        ("variance", 0.0, 0.0, r"variance\[2\] \+ epsilon is 0, not positive"),
    ],
)
def test_broken_statistics_are_named(name, value, epsilon, words):
    s = _statistics()
    s[name][2] = value
    with pytest.raises(DegenerateStatisticsError, match=words):
        Affine.of_batch_norm(**s, epsilon=epsilon)


def test_after_composes():
    first, second, x = _affine(), _affine(), RANDOM.standard_normal((2, 4, 3))
    wanted = second.apply(first.apply(x, 1), 1)
    np.testing.assert_allclose(second.after(first).apply(x, 1), wanted, rtol=1e-12)


def test_uniform_stands_for_all_channels():
    uniform = Affine.of(2.0, -1.0)
    assert uniform.is_uniform
    np.testing.assert_array_equal(uniform.over(3).scale, [2, 2, 2])
    assert uniform.part(1, 2) is uniform
    assert uniform.spread(3, 2) is uniform
    with pytest.raises(ValueError, match="4 channels meets 3 channels"):
        _affine(4).over(3)


def test_spread_repeats_inside_then_outside():
    spread = Affine.of([1.0, 2.0], 0.0).spread(inner=2, outer=2)
    np.testing.assert_array_equal(spread.scale, [1, 1, 2, 2, 1, 1, 2, 2])


def test_identity_and_shift():
    assert Affine.of(np.ones(3), 0.0).is_identity
    assert not Affine.of(np.ones(3), [0, 0, 1e-9]).is_identity
    assert not _affine().scale_only.shifts
    np.testing.assert_array_equal(Affine.of(1.0, 2.0).mirrored.shift, [-2])


@pytest.mark.parametrize("shape", [(1, 4, 3, 2), (2, 3, 2, 1), (4, 1, 1, 9)])
def test_absorbing_after_and_before_match_plain_loops(shape):
    weight = RANDOM.standard_normal(shape)
    bias = RANDOM.standard_normal(shape[0] * shape[1])
    x = RANDOM.standard_normal((shape[0], *shape[2:]))

    after = _affine(bias.size)
    wanted = after.scale * _linear(weight, bias, x) + after.shift
    np.testing.assert_allclose(_linear(*absorb_after(weight, bias, after), x), wanted, rtol=1e-11)

    before = _affine(shape[0] * shape[2])
    mapped = before.apply(x.reshape(-1, shape[3]), 0).reshape(x.shape)
    found = _linear(*absorb_before(weight, bias, before), x)
    np.testing.assert_allclose(found, _linear(weight, bias, mapped), rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_the_product_is_rounded_once(dtype):
    weight = RANDOM.standard_normal((1, 3, 5, 9)).astype(dtype)
    affine = _affine(3)
    folded, bias = absorb_after(weight, np.zeros(3), affine)
    wanted = weight.astype(np.float64) * affine.scale.reshape(1, 3, 1, 1)
    assert folded.dtype == dtype
    assert bias.dtype == np.float64
    np.testing.assert_array_equal(folded, wanted.astype(dtype))


def test_an_overflow_names_the_largest_value():
    weight = np.full((1, 1, 1, 1), 1000, np.float16)
    with pytest.raises(OverflowError, match="200000 overflows float16"):
        absorb_after(weight, np.zeros(1), Affine.of(-200.0, 0.0))
    with pytest.raises(OverflowError, match="70000 overflows float16"):
        rounded(np.array([1.0, -70000.0]), np.dtype(np.float16))
    with pytest.raises(OverflowError, match="NaN"):
        absorb_after(weight * np.float16(np.nan), np.zeros(1), Affine.of(1.0, 0.0))


def _without_epsilon(gamma, beta, mean, variance, epsilon):
    return _true(gamma, beta, mean, variance, 0.0)


def _without_mean(gamma, beta, mean, variance, epsilon):
    return _true(gamma, beta, 0 * mean, variance, epsilon)


def _without_beta(gamma, beta, mean, variance, epsilon):
    return _true(gamma, 0 * beta, mean, variance, epsilon)


def _without_gammas_sign(gamma, beta, mean, variance, epsilon):
    return _true(abs(gamma), beta, mean, variance, epsilon)


def _variance_unrooted(gamma, beta, mean, variance, epsilon):
    return _true(gamma, beta, mean, (variance + epsilon) ** 2, 0.0)


def _channels_reversed(gamma, beta, mean, variance, epsilon):
    right = _true(gamma, beta, mean, variance, epsilon)
    return Affine(right.scale[::-1], right.shift[::-1])


_true = Affine.of_batch_norm
BUGS = [
    _without_epsilon,
    _without_mean,
    _without_beta,
    _without_gammas_sign,
    _variance_unrooted,
    _channels_reversed,
]


def _error_of_a_fold() -> float:
    (pattern,) = (p for p in patterns() if p.name == "conv_2d_bias")
    model = pattern.model()
    folded, _ = fold_model(model)
    inputs = feeds(model)
    return worst_error(run_onnxruntime(model, inputs), run_onnxruntime(folded, inputs))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_of_the_formula_turns_the_check_red(bug, monkeypatch):
    assert _error_of_a_fold() < 1e-5
    monkeypatch.setattr(Affine, "of_batch_norm", bug)
    assert _error_of_a_fold() > 1e-4


@pytest.mark.parametrize("bug", ["wrong axis", "shift not scaled"])
def test_a_planted_bug_of_the_absorption_turns_the_check_red(bug, monkeypatch):
    def wrong(weight, bias, affine):
        affine = affine.over(bias.size)
        if bug == "shift not scaled":
            return algebra.absorb_after(weight, bias, affine)[0], bias + affine.shift
        scale = np.resize(affine.scale, weight.shape[2]).reshape(1, 1, -1, 1)
        return (weight * scale).astype(weight.dtype), affine.scale * bias + affine.shift

    monkeypatch.setattr("export.rules.linear.absorb_after", wrong)
    assert _error_of_a_fold() > 1e-4
