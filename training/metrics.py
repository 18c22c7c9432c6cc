"""What a classifier is worth: accuracy, per class, confusion and calibration, in float64 NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

BINS = 15  # as in Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4


@dataclass(frozen=True)
class Calibration:
    """Pictures grouped by the confidence of their prediction.

    Attributes:
        edges: float64 (bins + 1,), of the bins on 0..1.
        counts: int64 (bins,), pictures in each bin.
        confidence: float64 (bins,), mean confidence; 0 in an empty bin.
        accuracy: float64 (bins,), share of right predictions; 0 in an empty bin.
        error: expected calibration error: the mean over pictures of |accuracy - confidence| of
            their bin (Guo et al. 2017, equation 3).
    """

    edges: Floats
    counts: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    error: float


def softmax(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probabilities float64 (n, classes) of `logits` (n, classes) / `temperature`."""
    scaled = np.asarray(logits, np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(1, keepdims=True))
    result: NDArray[np.float64] = exponentials / exponentials.sum(1, keepdims=True)
    return result


def accuracy(scores: Floats, labels: NDArray[np.int64]) -> float:
    """Return the share of pictures whose largest score (n, classes) is their label's."""
    return float((scores.argmax(1) == labels).mean())


def log_loss(probabilities: Floats, labels: NDArray[np.int64]) -> float:
    """Return the mean negative log likelihood, in nats, of the labels."""
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())


def confusion_matrix(scores: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return counts (classes, classes): rows are the true labels, columns the predictions."""
    classes = scores.shape[1]
    flat = np.bincount(labels * classes + scores.argmax(1), minlength=classes * classes)
    return flat.reshape(classes, classes)


def per_class_accuracy(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64 (classes,): the share of each class found; NaN for a class with no picture."""
    counts = confusion.sum(1)
    result: NDArray[np.float64] = np.full(len(counts), np.nan)
    np.divide(confusion.diagonal(), counts, out=result, where=counts > 0)
    return result


def calibration(probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS) -> Calibration:
    """Group the predictions into `bins` equal ranges of confidence, each open at its lower edge."""
    confident = probabilities.max(1).astype(np.float64)
    right = (probabilities.argmax(1) == labels).astype(np.float64)
    index = np.clip(np.ceil(confident * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    at_least_one = np.maximum(counts, 1)
    confidence = np.bincount(index, confident, bins) / at_least_one
    accurate = np.bincount(index, right, bins) / at_least_one
    error = float((counts * np.abs(accurate - confidence)).sum() / max(counts.sum(), 1))
    return Calibration(np.linspace(0, 1, bins + 1), counts, confidence, accurate, error)
