from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from flatfold.contract.errors import FlatfoldError
from training.evaluate import Answers
from training.metrics import softmax
from training.report import Results, drawable, most_confident_mistakes, write_report

if TYPE_CHECKING:
    from pathlib import Path


def results(classes: int = 10, pictures: int = 200, **changed: Any) -> Results:
    generator = np.random.default_rng(0)
    history = [
        {
            "epoch": epoch,
            "train_loss": 2 / epoch,
            "holdout_loss": 2.1 / epoch,
            "train_accuracy": 1 - 0.6 / epoch,
            "holdout_accuracy": 1 - 0.7 / epoch,
        }
        for epoch in range(1, 6)
    ]
    labels = generator.integers(0, classes, pictures)
    logits = generator.normal(0, 1, (pictures, classes)) + 3 * np.eye(classes)[labels]
    settings = {
        "title": "flatnet, 5 epochs",
        "history": history,
        "answers": Answers(labels, softmax(logits), None),
        "images": generator.integers(0, 256, (pictures, 32, 32, 3), np.uint8),
        "names": [f"class {number}" for number in range(classes)],
    }
    return Results(**{**settings, **changed})


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_a_whole_png_and_nothing_else_is_written(tmp_path: Path, classes: int) -> None:
    write_report(tmp_path / "report.png", results(classes))
    with Image.open(tmp_path / "report.png") as image:
        image.load()
        assert image.format == "PNG"
        assert image.size == (1800, 1100)
    assert [path.name for path in tmp_path.iterdir()] == ["report.png"]


def test_a_model_without_mistakes_is_drawn_too(tmp_path: Path) -> None:
    labels = np.arange(10)
    write_report(tmp_path / "report.png", results(answers=Answers(labels, np.eye(10), None)))
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_names_that_are_no_formula_no_utf8_or_in_no_font_are_drawn(tmp_path: Path) -> None:
    names = ["$_$", "caf\udce9", "猫", "one $"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(tmp_path / "report.png", results(4, names=names, title="$_$ and \udce9"))
    assert (tmp_path / "report.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("cat", "cat"),
        ("exactly 20 letters !", "exactly 20 letters !"),
        ("spotted cuckoo of the hills, young", "spotted cu…ls, young"),
        ("spotted cuckoo of the hills, adult", "spotted cu…ls, adult"),
        ("two\nlines", "two lines"),
        ("$x$", r"\$x\$"),
    ],
)
def test_names_stay_clear_of_their_neighbours_and_differ(name: str, drawn: str) -> None:
    assert drawable(name, 20) == drawn


def test_mistakes_come_with_the_most_confident_first() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.05, 0.95]])
    labels = np.array([0, 1, 0, 0])
    assert most_confident_mistakes(probabilities, labels, 2).tolist() == [3, 2]
    assert most_confident_mistakes(probabilities, labels, 9).tolist() == [3, 2, 1]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FlatfoldError, match=r"cannot write .*nowhere"):
        write_report(tmp_path / "nowhere" / "report.png", results())
