"""Temperature scaling: one divisor of the logits that makes the probabilities honest.

Guo et al. 2017, "On calibration of modern neural networks", https://arxiv.org/abs/1706.04599,
section 4.2. It never changes which class wins, and it is fitted on held-out training pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flatfold.contract.errors import FlatfoldError
from training.metrics import softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Logits without any skill have no best temperature: stop here.
LOWEST, HIGHEST = 0.05, 20.0
HALVINGS = 60  # the bracket of ln(400) shrinks below float64's precision


class TemperatureError(FlatfoldError):
    """These logits cannot be calibrated."""


def fit_temperature(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """Return the temperature that minimises the log loss of softmax(logits / temperature).

    As in Platt's scaling (1999), the targets are smoothed by a share of 1 / (n + 2), the rule of
    succession: n pictures without a mistake promise no more than that, where the plain loss would
    ask for infinite confidence. The share vanishes with thousands of pictures. The loss is convex
    in 1 / temperature, so its slope has one root, found by bisection.

    Args:
        logits: (n, classes), of pictures that the network was not trained on.
        labels: int64 (n,).

    Returns:
        The temperature, kept within 0.05 and 20.

    Raises:
        TemperatureError: no logits, or some are not finite.
    """
    exact = np.asarray(logits, np.float64)
    if not len(exact) or not np.isfinite(exact).all():
        raise TemperatureError(
            f"the temperature needs finite logits of at least one held-out picture; got "
            f"{len(exact)} pictures, {np.count_nonzero(~np.isfinite(exact))} values not finite"
        )
    low, high = np.log(LOWEST), np.log(HIGHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _slope(exact, labels, float(np.exp(middle))) > 0:
            low = middle  # overconfident: a smaller 1 / temperature lowers the loss
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def _slope(logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float) -> float:
    """Return d loss / d(1 / temperature): the expected logit minus the target's, averaged."""
    count = len(labels)
    smoothing = 1 / (count + 2)
    expected = (softmax(logits, temperature) * logits).sum(1)
    target = (1 - smoothing) * logits[np.arange(count), labels] + smoothing * logits.mean(1)
    return float((expected - target).mean())
