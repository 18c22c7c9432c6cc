"""A run in one picture: curves, confusion, calibration and the most confident mistakes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flatfold.contract.files import atomic_path
from training.metrics import calibration, confusion_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.gridspec import SubplotSpec
    from numpy.typing import NDArray

    from training.evaluate import Answers

MISTAKE_ROWS, MISTAKE_COLUMNS = 3, 6
NAMED_CLASSES = 30  # more names than this run into each other
COUNTED_CLASSES = 12  # more counts than this are too small to read
TITLE_LETTERS, NAME_LETTERS = 120, 20  # more than these run over the edge, or into their neighbours
TRAIN_COLOUR, HELD_OUT_COLOUR = "tab:blue", "tab:orange"


@dataclass(frozen=True)
class Results:
    """What the picture shows.

    Attributes:
        title: the first line.
        history: one record an epoch, as the training loop writes them.
        answers: the model's answers for the test pictures.
        images: uint8 (n, height, width, 3), the test pictures.
        names: the class names.
    """

    title: str
    history: Sequence[dict[str, Any]]
    answers: Answers
    images: NDArray[np.uint8]
    names: Sequence[str]


def write_report(path: Path, results: Results) -> None:
    """Write the picture as a PNG.

    Raises:
        FlatfoldError: the path cannot be written.
    """
    figure = Figure(figsize=(18, 11), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(drawable(results.title, TITLE_LETTERS))
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 1.15))
    _curves(figure.add_subplot(grid[0, 0]), results.history, "loss")
    _curves(figure.add_subplot(grid[0, 1]), results.history, "accuracy")
    _calibration(figure.add_subplot(grid[0, 2]), results.answers)
    _confusion(figure.add_subplot(grid[1, 0]), results)
    _mistakes(figure, grid[1, 1:], results)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box, which says as much as the warning.
        warnings.filterwarnings("ignore", r"Glyph .* missing", UserWarning)
        figure.savefig(temporary, format="png", dpi=100)


def drawable(text: str, most: int) -> str:
    """Return `text` as matplotlib draws it literally, in one line of up to `most` letters.

    Long ones lose their middle: names often differ at their end. A pair of $ would be read as a
    formula, and a surrogate, which stands for a byte of a folder's name that is not UTF-8, is
    refused: it becomes a question mark.
    """
    text = " ".join(text.split())
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-((most - 1) // 2) :]}"
    return text.encode("utf-8", "replace").decode("utf-8").replace("$", r"\$")


def _curves(axes: Axes, history: Sequence[dict[str, Any]], kind: str) -> None:
    epochs = [record["epoch"] for record in history]
    for part, name, colour in (
        ("train", "training, augmented", TRAIN_COLOUR),
        ("holdout", "held out", HELD_OUT_COLOUR),
    ):
        values = [record[f"{part}_{kind}"] for record in history]
        axes.plot(epochs, values, marker=".", color=colour, label=name)
    axes.set(title=kind.capitalize(), xlabel="epoch", ylabel=kind)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def _calibration(axes: Axes, answers: Answers) -> None:
    measured = calibration(answers.probabilities, answers.labels)
    filled = measured.counts > 0
    width = measured.edges[1] - measured.edges[0]
    axes.bar(
        measured.edges[:-1][filled],
        measured.accuracy[filled],
        width,
        align="edge",
        color="lightskyblue",
        edgecolor="white",
        label="accuracy",
    )
    axes.plot([0, 1], [0, 1], "k--", linewidth=1, label="honest")
    share = measured.counts / max(measured.counts.sum(), 1)
    axes.step(
        measured.edges,
        [*share, share[-1]],
        where="post",
        color="tab:red",
        label="share of pictures",
    )
    axes.set(
        title=f"Calibration: expected error {measured.error:.4f}",
        xlabel="confidence",
        ylabel="accuracy",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)


def _confusion(axes: Axes, results: Results) -> None:
    counts = confusion_matrix(results.answers.probabilities, results.answers.labels)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # The diagonal dwarfs everything: the root makes single mistakes visible.
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    axes.set(title="Confusion (rows true, columns predicted)")
    if len(results.names) <= NAMED_CLASSES:
        places = range(len(results.names))
        names = [drawable(name, NAME_LETTERS) for name in results.names]
        axes.set_xticks(places, names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, names)
    if len(results.names) <= COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.25 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)


def _mistakes(figure: Figure, place: SubplotSpec, results: Results) -> None:
    probabilities, labels = results.answers.probabilities, results.answers.labels
    panel = figure.add_subfigure(place)
    chosen = most_confident_mistakes(probabilities, labels, MISTAKE_ROWS * MISTAKE_COLUMNS)
    panel.suptitle("Most confident mistakes" if len(chosen) else "No mistakes")
    cells = panel.subplots(MISTAKE_ROWS, MISTAKE_COLUMNS).flat
    for index, axes in zip(chosen, cells, strict=False):
        said = probabilities[index].argmax()
        answer, truth = (drawable(results.names[i], NAME_LETTERS) for i in (said, labels[index]))
        axes.imshow(results.images[index], interpolation="nearest")
        title = f"{answer} {probabilities[index, said]:.0%}\nis {truth}"
        axes.set_title(title, fontsize=9)
    for axes in panel.axes:
        axes.axis("off")


def most_confident_mistakes(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """Return the indices of up to `most` wrong predictions, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    order = np.argsort(-probabilities[wrong].max(1), kind="stable")
    return wrong[order[:most]]
