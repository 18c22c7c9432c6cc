from __future__ import annotations

import numpy as np
import pytest

from training.metrics import log_loss, softmax
from training.temperature import HIGHEST, TemperatureError, fit_temperature


def draw(count: int = 5_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is honest: each label is drawn from it."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (count, 10))
    labels = (softmax(logits).cumsum(1) > generator.random((count, 1))).argmax(1)
    return logits, labels


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_finds_the_temperature_that_the_logits_were_multiplied_by(true: float) -> None:
    logits, labels = draw()
    assert fit_temperature(logits * true, labels) == pytest.approx(true, rel=0.05)


def test_no_other_temperature_has_a_lower_loss_on_the_smoothed_targets() -> None:
    logits, labels = draw(50)
    targets = np.full((50, 10), 1 / 52 / 10)
    targets[np.arange(50), labels] += 1 - 1 / 52

    def loss(temperature: float) -> float:
        return float(-(targets * np.log(softmax(logits, temperature))).sum(1).mean())

    best = fit_temperature(logits, labels)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert loss(best * factor) > loss(best)


def test_with_thousands_of_pictures_it_is_the_plain_minimum() -> None:
    logits, labels = draw(5_000)
    best = fit_temperature(logits, labels)
    for factor in (0.97, 1.03):
        assert log_loss(softmax(logits, best * factor), labels) > log_loss(
            softmax(logits, best), labels
        )


def test_float32_logits_give_the_same() -> None:
    logits, labels = draw(500)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(
        fit_temperature(logits, labels), rel=1e-5
    )


def test_few_pictures_without_a_mistake_promise_no_certainty() -> None:
    # Ten right answers: each other class keeps 1 / 12 / 10, and 5 / temperature is their log odds.
    other = 1 / 12 / 10
    expected = 5 / np.log((1 - 9 * other) / other)
    assert fit_temperature(5 * np.eye(10), np.arange(10)) == pytest.approx(expected)


def test_without_skill_it_stops_at_the_limit() -> None:
    wrong = (np.arange(10) + 1) % 10
    assert fit_temperature(5 * np.eye(10), wrong) == pytest.approx(HIGHEST)


@pytest.mark.parametrize("logits", [np.zeros((0, 10)), np.array([[np.nan, 1.0]])])
def test_what_cannot_be_calibrated_is_said(logits: np.ndarray) -> None:
    with pytest.raises(TemperatureError, match="finite logits"):
        fit_temperature(logits, np.zeros(len(logits), np.int64))
