"""Measuring a model on labelled pictures, and the figures as one plain record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flatfold.contract.errors import FlatfoldError
from training.data import DataError, Pictures
from training.memory import pictures_at_once
from training.metrics import accuracy, calibration, confusion_matrix, log_loss, per_class_accuracy
from training.views import weighted_views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from training.predictor import Predictor

    Floats = NDArray[np.floating[Any]]


PICTURES_AT_ONCE = 500  # of CIFAR-10's size


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was measured; every figure but `accuracy_tta` is of the single, unchanged view.

    Attributes:
        images: number of pictures.
        accuracy: share of pictures classified right.
        accuracy_tta: the same with test-time augmentation (`views.py`); None where not asked for.
        log_loss: mean negative log likelihood in nats, of the calibrated probabilities.
        ece: expected calibration error, 15 bins, of the calibrated probabilities.
        per_class: accuracy of each label; None for one without a picture.
        confusion: counts, rows true, columns predicted, in the order of `labels`.
        labels: the model's class names.
    """

    images: int
    accuracy: float
    accuracy_tta: float | None
    log_loss: float
    ece: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Answers:
    """What a model said of each picture.

    Attributes:
        labels: int64 (n,), the true labels in the model's order.
        probabilities: (n, classes), single view, calibrated.
        augmented: logits (n, classes) averaged over the views of `views.py`, or None.
    """

    labels: NDArray[np.int64]
    probabilities: Floats
    augmented: Floats | None


def ask(
    predictor: Predictor,
    pictures: Pictures,
    *,
    batch_size: int | None = None,
    tta: bool = True,
    progress: Callable[[int], object] = lambda _: None,
) -> Answers:
    """Ask `predictor` about every picture.

    Args:
        predictor: the model.
        pictures: their size must be the model's, their names among the model's labels.
        batch_size: pictures a call of the model; by default 500, and fewer of pictures larger than
            CIFAR-10's, so that they fit the same memory.
        tta: test-time augmentation too, at six times the work.
        progress: called with the number of pictures after each batch.

    Raises:
        DataError: no pictures, or pictures of another size or with unknown names.
        FlatfoldError: the model answers with probabilities that are not finite.
    """
    card = predictor.card
    labels = _labels_as(card.labels, pictures)
    _check_size(pictures, card.height, card.width)
    single, augmented = [], []
    step = batch_size or pictures_at_once(PICTURES_AT_ONCE, card.height, card.width)
    for start in range(0, len(pictures), step):
        batch = pictures.images[start : start + step]
        views = weighted_views(batch) if tta else [(1.0, batch)]
        answers = [(weight, *predictor.predict(view)) for weight, view in views]
        single.append(answers[0][2])  # the first view is the unchanged picture
        augmented.append(sum(weight * np.asarray(logits, float) for weight, logits, _ in answers))
        progress(len(batch))
    probabilities = np.concatenate(single)
    _check_finite(probabilities)
    return Answers(labels, probabilities, np.concatenate(augmented) if tta else None)


def summarise(answers: Answers, names: Sequence[str]) -> Evaluation:
    """Turn answers into figures; `names` are the model's class names."""
    labels, probabilities = answers.labels, answers.probabilities
    confusion = confusion_matrix(probabilities, labels)
    shares = per_class_accuracy(confusion)
    return Evaluation(
        images=len(labels),
        accuracy=accuracy(probabilities, labels),
        accuracy_tta=None if answers.augmented is None else accuracy(answers.augmented, labels),
        log_loss=log_loss(probabilities, labels),
        ece=calibration(probabilities, labels).error,
        per_class={
            name: None if np.isnan(share) else float(share)
            for name, share in zip(names, shares, strict=True)
        },
        confusion=confusion.tolist(),
        labels=tuple(names),
    )


def _labels_as(names: Sequence[str], pictures: Pictures) -> NDArray[np.int64]:
    """Return the pictures' labels as indices into the model's `names`."""
    if unknown := sorted(set(pictures.names) - set(names)):
        raise DataError(
            f"the model does not know the classes {', '.join(unknown)}; "
            f"it was trained on {', '.join(names)}"
        )
    if len(pictures) == 0:
        raise DataError("there are no pictures to evaluate on")
    return np.array([names.index(name) for name in pictures.names], np.int64)[pictures.labels]


def _check_finite(probabilities: Floats) -> None:
    if bad := int((~np.isfinite(probabilities).all(1)).sum()):
        raise FlatfoldError(
            f"the model's probabilities for {bad} of {len(probabilities)} pictures are not finite "
            "numbers: its weights are damaged, or its training diverged"
        )


def _check_size(pictures: Pictures, height: int, width: int) -> None:
    rows, columns = pictures.images.shape[1:3]
    if (rows, columns) != (height, width):
        raise DataError(
            f"the pictures are {rows}x{columns}, the model reads {height}x{width} (rows x columns)"
        )
