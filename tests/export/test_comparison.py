"""What counts as the same: errors by channel, peaks, noise, probabilities and flips."""

from __future__ import annotations

import json

import numpy as np
import pytest

from export.comparison import ProofError, compare

TOLERANCE = 1e-5


def _values(rows=200, channels=4, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, channels))


def _compare(before, after, **settings):
    return compare({"y": before}, {"y": after}, tolerance=TOLERANCE, **settings)


def _softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_same_values_pass_with_no_error():
    proof = _compare(_values(), _values(), images=3)
    assert proof.holds
    assert (proof.worst.error, proof.worst.peak, proof.top1_agreement) == (0, 0, 1)
    assert (proof.samples, proof.images, proof.flips) == (200, 3, ())


def test_a_small_channel_cannot_hide_behind_a_large_one():
    before = _values() * [1e6, 1, 1, 1e-6]
    after = before.copy()
    after[:, 3] *= 1.001
    proof = _compare(before, after)
    assert not proof.holds
    assert proof.worst.channel == 3
    assert proof.worst.error == pytest.approx(1e-3, rel=1e-6)


def test_one_wrong_value_among_many_fails_by_its_peak():
    before = _values(rows=1_000_000, channels=1)
    after = before.copy()
    after[5] += 2e-4  # an error of 2e-7 in the mean
    proof = _compare(before, after)
    assert proof.worst.error < TOLERANCE
    assert not proof.holds


def test_rounding_of_the_one_value_that_relu_left_is_no_error():
    before = np.zeros((10_000, 1))
    before[5] = 1e-3
    assert _compare(before, before * (1 + 5e-6)).holds
    assert not _compare(before, before * (1 + 5e-4)).holds


def test_what_the_original_itself_wavers_by_is_allowed_but_only_so_far():
    before = _values()
    moved, wavering = before * (1 + 5e-5), before * (1 + 2e-5)
    assert not _compare(before, moved).holds
    assert _compare(before, moved, noise=[{"y": wavering}]).holds
    chaos = before + _values(seed=1)
    assert not _compare(before, before * 1.01, noise=[{"y": chaos}]).holds


def test_a_class_that_a_confident_model_never_predicts_cannot_refuse_it():
    """Two float32 runs of logits that far apart give 1e-30 and 2e-30, or 0 and 1e-45."""
    logits = np.tile([0.0, 80.0, -80.0], (50, 1)).astype(np.float32)
    before = _softmax(logits)
    after = _softmax(logits * np.float32(1 + 1e-6))
    before[:, 2], after[:, 2] = 0, 1e-45
    assert _compare(before, after).holds


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_probabilities_are_still_held_to_their_size(classes):
    """An untrained model gives every class about 1 / classes, and an error shows there as well."""
    logits = _values(channels=classes) * 0.1
    assert not _compare(_softmax(logits), _softmax(logits + 1e-3 * _values(200, classes, 1))).holds


def test_positive_values_that_do_not_add_up_to_one_are_no_probabilities():
    before = np.abs(_values()) * [1, 1, 1, 1e-9]
    after = before.copy()
    after[:, 3] *= 2
    assert not _compare(before, after).holds


def test_a_channel_of_zeros_is_held_to_the_size_of_the_others():
    before = _values() * [1, 1, 1, 0]
    after = before.copy()
    after[:, 3] = 1e-7
    assert _compare(before, after).holds
    after[:, 3] = 1e-3
    assert not _compare(before, after).holds


def test_not_finite_on_one_side_only_is_an_error():
    before, after = _values(), _values()
    before[3, 1] = after[3, 1] = np.inf
    before[4, 1] = after[4, 1] = np.nan
    assert _compare(before, after).holds
    after[5, 2] = np.nan
    assert not _compare(before, after).holds


def test_flips_carry_their_margin():
    before = np.array([[1.0, 3.0], [5.0, 2.0]])
    after = np.array([[1.0, 3.0], [5.0, 6.0]])
    proof = _compare(before, after)
    (flip,) = proof.flips
    assert (flip.row, flip.before, flip.after, flip.margin) == (1, 0, 1, 3)
    assert proof.top1_agreement == 0.5
    assert "row 1: 0 -> 1, margin 3.0e+00" in proof.summary()


def test_other_outputs_shapes_and_nothing_finite_are_refused():
    with pytest.raises(ProofError, match="outputs differ"):
        compare({"a": _values()}, {"b": _values()}, tolerance=TOLERANCE)
    with pytest.raises(ProofError, match="shape"):
        _compare(_values(3), _values(4))
    with pytest.raises(ProofError, match="nothing to compare"):
        _compare(np.full((2, 2), np.nan), np.full((2, 2), np.nan))


def test_the_figures_are_plain_json():
    text = json.dumps(_compare(_values(), _values() * 1.5).to_dict())
    assert json.loads(text)["holds"] is False


def test_texts_are_the_same_or_not():
    labels = np.array([["cat"], ["dog"]], object)
    assert _compare(labels, labels.copy()).holds
    with pytest.raises(ProofError, match="object values, is not the same"):
        _compare(labels, labels[::-1])


@pytest.mark.parametrize("shape", [(64, 7, 4), (64, 5, 6, 4)])
def test_a_small_channel_of_the_last_axis_cannot_hide_either(shape):
    before = np.random.default_rng(0).standard_normal(shape) * [1, 1, 1e-6, 1]
    after = before.copy()
    after[..., 2] *= 1.5
    proof = _compare(before, after)
    assert (proof.worst.channel, proof.worst.axis) == (2, len(shape) - 1)
    assert not proof.holds
    assert f"channel 2 of axis {len(shape) - 1}" in proof.summary()


def test_a_class_never_predicted_is_none_on_the_last_axis_either():
    logits = np.tile([0.0, 80.0, -80.0], (50, 7, 1)).swapaxes(1, 2)
    before = _softmax(logits).swapaxes(1, 2)
    after = before * [1, 1, 1 + 1e-3]
    assert _compare(before, after).holds


def test_a_few_values_on_the_other_side_of_a_step_are_excused_when_told_so():
    before = np.round(10 * _values(rows=1_000_000))
    after = before.copy()
    after[7, 2] += 1
    assert not _compare(before, after).holds
    assert _compare(before, after, ties=True).holds
    after[::100] += 1
    assert not _compare(before, after, ties=True).holds
    after = before.copy()
    after[7, 2] = np.inf
    assert not _compare(before, after, ties=True).holds
