from __future__ import annotations

import numpy as np
import pytest

from training.metrics import log_loss, softmax
from training.temperature import HIGHEST, LOWEST, TemperatureError, fit_temperature


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


def test_no_other_temperature_has_a_lower_loss() -> None:
    logits, labels = draw(500)
    best = fit_temperature(logits, labels)
    lowest = log_loss(softmax(logits, best), labels)
    for factor in (0.5, 0.99, 1.01, 2.0):
        assert log_loss(softmax(logits, best * factor), labels) > lowest


def test_float32_logits_give_the_same() -> None:
    logits, labels = draw(500)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(
        fit_temperature(logits, labels), rel=1e-5
    )


def test_without_mistakes_or_without_skill_it_stops_at_the_limits() -> None:
    logits = 5 * np.eye(10)
    assert fit_temperature(logits, np.arange(10)) == pytest.approx(LOWEST)
    assert fit_temperature(logits, (np.arange(10) + 1) % 10) == pytest.approx(HIGHEST)


@pytest.mark.parametrize("logits", [np.zeros((0, 10)), np.array([[np.nan, 1.0]])])
def test_what_cannot_be_calibrated_is_said(logits: np.ndarray) -> None:
    with pytest.raises(TemperatureError, match="finite logits"):
        fit_temperature(logits, np.zeros(len(logits), np.int64))
