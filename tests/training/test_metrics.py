from __future__ import annotations

import numpy as np
import pytest

from training.metrics import (
    accuracy,
    calibration,
    confusion_matrix,
    log_loss,
    per_class_accuracy,
    softmax,
)

SCORES = np.array([[3.0, 1, 0], [0, 1, 3], [0, 5, 1], [0, 0, 1]])
LABELS = np.array([0, 1, 1, 1])


def test_accuracy_is_the_share_of_largest_scores_at_the_label() -> None:
    assert accuracy(SCORES, LABELS) == 0.5


def test_confusion_has_true_rows_and_predicted_columns() -> None:
    confusion = confusion_matrix(SCORES, LABELS)
    assert confusion.tolist() == [[1, 0, 0], [0, 1, 2], [0, 0, 0]]


def test_per_class_is_nan_without_a_picture() -> None:
    shares = per_class_accuracy(confusion_matrix(SCORES, LABELS))
    assert shares == pytest.approx([1, 1 / 3, np.nan], nan_ok=True)


def test_softmax_divides_by_the_temperature_and_survives_large_logits() -> None:
    assert softmax(np.array([[0.0, 2.0]]), 2.0) == pytest.approx(
        np.array([[1, np.e]]) / (1 + np.e), rel=1e-15
    )
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_log_loss_in_nats_and_finite_at_probability_zero() -> None:
    probabilities = np.array([[0.5, 0.5], [0.25, 0.75]])
    assert log_loss(probabilities, np.array([0, 0])) == pytest.approx(np.log(8) / 2)
    assert np.isfinite(log_loss(np.array([[0.0, 1.0]]), np.array([0])))


def test_calibration_error_by_hand() -> None:
    # Two bins of ten: 0.55 and 0.6 (upper edge) share (0.5, 0.6], 0.95 is alone.
    confident = np.array([0.55, 0.6, 0.95])
    probabilities = np.stack([confident, 1 - confident], 1)
    measured = calibration(probabilities, np.array([0, 1, 0]), bins=10)
    assert measured.counts.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert measured.confidence[[5, 9]] == pytest.approx([0.575, 0.95])
    assert measured.accuracy[[5, 9]] == pytest.approx([0.5, 1.0])
    assert measured.error == pytest.approx((2 * 0.075 + 1 * 0.05) / 3)


def test_full_confidence_falls_into_the_last_bin() -> None:
    measured = calibration(np.array([[1.0, 0.0]]), np.array([0]))
    assert measured.counts[-1] == 1
    assert measured.error == 0.0


def test_honest_probabilities_have_a_small_error_and_boasting_ones_a_large() -> None:
    generator = np.random.default_rng(0)
    probabilities = softmax(generator.normal(0, 2, (20_000, 10)))
    labels = (probabilities.cumsum(1) > generator.random((20_000, 1))).argmax(1)
    assert calibration(probabilities, labels).error < 0.015
    boasting = softmax(4 * np.log(probabilities))
    assert calibration(boasting, labels).error > 0.2
