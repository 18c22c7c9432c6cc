from __future__ import annotations

import numpy as np
import pytest

from flatfold.contract.card import Card
from flatfold.contract.errors import FlatfoldError
from training.data import DataError, Pictures
from training.evaluate import Evaluation, ask, summarise
from training.metrics import softmax
from training.predictor import Predictor

CARD = Card(name="colours", labels=("blue", "green", "red"), height=4, width=4)


def by_colour(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each channel is the logit of its colour."""
    logits = images.reshape(len(images), -1, 3).mean(1)[:, ::-1] / 64
    return logits, softmax(logits)


def colours(*names: str, known: tuple[str, ...] = CARD.labels) -> Pictures:
    images = np.zeros((len(names), 4, 4, 3), np.uint8)
    for image, name in zip(images, names, strict=True):
        image[..., ("red", "green", "blue").index(name)] = 255
    labels = np.array([known.index(name) for name in names], np.int64)
    return Pictures(images, labels, known)


def evaluate(predictor: Predictor, pictures: Pictures, **settings: object) -> Evaluation:
    return summarise(ask(predictor, pictures, **settings), predictor.card.labels)


def test_tta_is_the_weighted_mean_of_the_views_and_the_single_view_is_the_first() -> None:
    pictures = colours("red")
    pictures.images[0, :, 2:] = (0, 255, 0)  # the right half green
    left_column = Predictor(CARD, lambda images: by_colour(images[:, :, :1]))
    answers = ask(left_column, pictures)
    full = 255 / 64
    assert answers.probabilities == pytest.approx(softmax(np.array([[0, 0, full]])))
    # Red is on the left in the unchanged view and both translations, green in their mirror images.
    assert answers.augmented == pytest.approx(np.array([[0, full / 2, full / 2]]))


def test_every_figure_of_a_small_set() -> None:
    pictures = colours("red", "red", "blue", "blue")
    pictures.images[0] = pictures.images[2]  # a red one that looks blue
    measured = evaluate(Predictor(CARD, by_colour), pictures)
    assert measured.images == 4
    assert measured.accuracy == measured.accuracy_tta == 0.75
    assert measured.per_class == {"blue": 1.0, "green": None, "red": 0.5}
    assert measured.confusion == [[2, 0, 0], [0, 0, 0], [1, 0, 1]]
    confidence = float(softmax(np.array([[255 / 64, 0, 0]])).max())
    assert measured.ece == pytest.approx(confidence - 0.75)


def test_batches_change_nothing_and_are_counted() -> None:
    pictures = colours(*["red", "green", "blue"] * 5)
    counted: list[int] = []
    whole = evaluate(Predictor(CARD, by_colour), pictures)
    parts = evaluate(Predictor(CARD, by_colour), pictures, batch_size=4, progress=counted.append)
    assert parts == whole
    assert counted == [4, 4, 4, 3]


def test_large_pictures_come_fewer_at_once() -> None:
    card = Card(name="colours", labels=CARD.labels, height=320, width=320)
    pictures = Pictures(np.zeros((7, 320, 320, 3), np.uint8), np.zeros(7, np.int64), CARD.labels)
    counted: list[int] = []
    ask(Predictor(card, by_colour), pictures, tta=False, progress=counted.append)
    assert counted == [5, 2]


def test_without_tta_each_picture_is_seen_once() -> None:
    seen = 0

    def counting(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal seen
        seen += len(images)
        return by_colour(images)

    measured = evaluate(Predictor(CARD, counting), colours("red", "blue"), tta=False)
    assert measured.accuracy_tta is None
    assert seen == 2


def test_the_pictures_may_name_their_classes_in_another_order() -> None:
    measured = evaluate(
        Predictor(CARD, by_colour), colours("red", "blue", "red", known=("red", "blue"))
    )
    assert measured.accuracy == 1.0
    assert measured.confusion == [[1, 0, 0], [0, 0, 0], [0, 0, 2]]


def test_classes_that_the_model_does_not_know() -> None:
    pictures = Pictures(colours("red").images, np.array([0]), ("scarlet",))
    with pytest.raises(DataError, match="does not know the classes scarlet"):
        evaluate(Predictor(CARD, by_colour), pictures)


def test_pictures_of_another_size_or_none() -> None:
    names = ("red",)
    wide = Pictures(np.zeros((1, 4, 5, 3), np.uint8), np.array([0]), names)
    with pytest.raises(DataError, match="are 4x5, the model reads 4x4"):
        evaluate(Predictor(CARD, by_colour), wide)
    none = Pictures(np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0, np.int64), names)
    with pytest.raises(DataError, match="no pictures"):
        evaluate(Predictor(CARD, by_colour), none)


def test_probabilities_that_are_not_numbers_have_no_figures() -> None:
    def broken(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits, probabilities = by_colour(images)
        return logits, np.where(images[:, 0, 0, :1] > 0, np.nan, probabilities)

    with pytest.raises(FlatfoldError, match="1 of 2 pictures are not finite"):
        evaluate(Predictor(CARD, broken), colours("red", "blue"))
