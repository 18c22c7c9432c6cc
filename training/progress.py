"""Telling people and programs how a training run goes: bar or lines, JSON lines, TensorBoard."""

from __future__ import annotations

import contextlib
import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from flatfold.contract.errors import FlatfoldError
from flatfold.contract.files import atomic_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.loop import Observer

# What an epoch's record holds that makes a curve; "epoch" is the curve's x.
CURVES = (
    "train_loss",
    "train_accuracy",
    "holdout_loss",
    "holdout_accuracy",
    "images_per_second",
)


class Several:
    """Passes everything on to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def batch(self, epoch: int, step: int, loss: float, accuracy: float) -> None:
        """Pass one step on."""
        for observer in self._observers:
            observer.batch(epoch, step, loss, accuracy)

    def epoch(self, record: dict[str, Any]) -> None:
        """Pass one epoch on."""
        for observer in self._observers:
            observer.epoch(record)


class Lines:
    """One readable line an epoch on standard output."""

    def __init__(self, work: Sequence[float]) -> None:
        """Judge the time that is left by each epoch's `work`, in any unit."""
        self._work = work
        self._seconds = 0.0
        self._done = 0.0

    def batch(self, epoch: int, step: int, loss: float, accuracy: float) -> None:
        """Say nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Print the record with the time that is left."""
        self._seconds += record["seconds"]
        self._done += self._work[record["epoch"] - 1]
        left = sum(self._work[record["epoch"] :]) * self._seconds / self._done
        sys.stdout.write(
            f"epoch {record['epoch']:>{len(str(record['epochs']))}}/{record['epochs']}"
            f"  loss {record['train_loss']:.4f}  accuracy {record['train_accuracy']:.2%}"
            f"  held out {record['holdout_accuracy']:.2%}"
            f"  {record['images_per_second']:,.0f} images/s"
            f"  left {timedelta(seconds=round(left))}\n"
        )
        sys.stdout.flush()


class Bar:
    """A progress bar over the whole run, with ETA, throughput and running accuracy.

    It counts pictures of the epoch with the most work, so that an epoch of smaller pictures moves
    it on as much less as it is shorter.
    """

    def __init__(
        self, work: Sequence[float], steps_per_epoch: int, batch_size: int, done: int
    ) -> None:
        """Start the bar after `done` epochs; `work` is each epoch's, in any unit."""
        self._images = [batch_size * share / max(work) for share in work]
        self._lines = Lines(work)
        self._accuracy = 0.0
        self._bar = tqdm(
            total=round(steps_per_epoch * sum(self._images)),
            initial=round(steps_per_epoch * sum(self._images[:done])),
            unit="img",
            unit_scale=True,
        )

    def batch(self, epoch: int, step: int, loss: float, accuracy: float) -> None:
        """Move on by a batch."""
        self._accuracy = (self._accuracy * step + accuracy) / (step + 1)
        shown = f"epoch {epoch + 1} loss {loss:.3f} accuracy {self._accuracy:.1%}"
        self._bar.set_postfix_str(shown, refresh=False)
        self._bar.update(self._images[epoch])

    def epoch(self, record: dict[str, Any]) -> None:
        """Leave the epoch's line above the bar."""
        with self._bar.external_write_mode():
            self._lines.epoch(record)
        if record["epoch"] == record["epochs"]:
            self._bar.close()


class JsonLines:
    """A file with one JSON object an epoch, complete at any moment."""

    def __init__(self, path: Path, history: Sequence[dict[str, Any]]) -> None:
        """Start the file with the epochs of a resumed run's `history`.

        A run killed between its state and its log leaves the log one epoch behind: the state's
        history is the truth.
        """
        self._path = path
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in history)

    def batch(self, epoch: int, step: int, loss: float, accuracy: float) -> None:
        """Write nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Append the record."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise FlatfoldError(f"cannot write {self._path}: {error.strerror}") from error


class TensorBoard:
    """The curves as TensorBoard's event files; needs the package `tensorboard`."""

    def __init__(self, folder: Path, done: int) -> None:
        """Write into `folder`, after `done` epochs.

        Raises:
            ImportError: the package is not installed.
            FlatfoldError: the folder cannot be written.
        """
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 # an optional package

        self._folder = folder
        self._failed = False
        try:
            self._writer = SummaryWriter(str(folder), purge_step=done + 1)
        except OSError as error:
            raise FlatfoldError(
                f"cannot write {folder}: {error.strerror or error}; "
                "make it a folder that can be written, or give another --output"
            ) from error

    def batch(self, epoch: int, step: int, loss: float, accuracy: float) -> None:
        """Write nothing."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Write each curve's newest point; warn, once, where that fails: the run is worth more."""
        if self._failed:
            return
        try:
            for name in CURVES:
                self._writer.add_scalar(name.replace("_", "/", 1), record[name], record["epoch"])
            self._writer.flush()
        except OSError as error:
            self._failed = True
            tqdm.write(
                f"flatfold: warning: cannot write {self._folder}: {error.strerror or error}; "
                "going on without TensorBoard's curves",
                file=sys.stderr,
            )


def build_observer(
    folder: Path,
    *,
    history: Sequence[dict[str, Any]],
    work: Sequence[float],
    steps_per_epoch: int,
    batch_size: int,
) -> Observer:
    """Return the observer of a run that writes into `folder` and has done `history` already.

    `work` is what each of all the run's epochs costs, in any unit.

    Raises:
        FlatfoldError: the folder cannot be written.
    """
    done = len(history)
    observers: list[Observer] = [JsonLines(folder / "log.jsonl", history)]
    if sys.stderr.isatty():
        observers.append(Bar(work, steps_per_epoch, batch_size, done))
    else:
        observers.append(Lines(work))
    with contextlib.suppress(ImportError):  # the curves are in the JSON lines and the report too
        observers.append(TensorBoard(folder / "tensorboard", done))
    return Several(observers)
