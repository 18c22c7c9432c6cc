"""Short trainings that are compared with each other, each one done once.

What was measured is a JSON line in a file and is not measured again, so that a comparison can be
made in pieces; a training that is broken off goes on from its last epoch. Accuracy and loss are
those of held-out training pictures: choices made with test pictures would spoil what those are
there for. The loss is that at the temperature that suits the run best, so that confidence alone
makes no difference; it ranks close recipes more finely than the accuracy does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import commit, cpu
from flatfold.contract.errors import FlatfoldError
from flatfold.contract.files import atomic_path
from training.loop import Trainer, score
from training.memory import keep_freed_pages
from training.precision import choose_compute
from training.sizing import fit_recipe
from training.split import hold_out
from training.temperature import fit_temperature

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from training.architecture import NetworkConfig
    from training.data import Pictures
    from training.recipe import Recipe


@contextlib.contextmanager
def telling_errors() -> Iterator[None]:
    """End the program with one line where the block cannot do what was asked."""
    try:
        yield
    except FlatfoldError as error:
        raise SystemExit(f"error: {error}") from error


class Ledger:
    """Rows in a file of JSON lines.

    Args:
        path: the file; what it holds already counts as measured.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the rows with these values."""
        return [
            row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())
        ]

    def add(self, **row: Any) -> None:
        """Keep a row, on disk before anything else happens."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)


@dataclass(frozen=True)
class Trial:
    """One training of a comparison: what it is called there, its recipe and its seed."""

    name: str
    recipe: Recipe
    seed: int

    @property
    def key(self) -> dict[str, Any]:
        """What makes it one of its kind; the digest changes with any number in the recipe.

        What is off, False or 0, is left out: a part that recipes get later changes no digest of
        those that go without it.
        """
        told = _switched_on(self.recipe) | {"network": _switched_on(self.recipe.network)}
        text = json.dumps(told, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return {"trial": self.name, "seed": self.seed, "recipe": digest}


def _switched_on(config: Recipe | NetworkConfig) -> dict[str, Any]:
    """Return the fields that are not off."""
    return {name: value for name, value in config.to_dict().items() if value}


class _Progress:
    """Tells each epoch in a line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def batch(self, *_: object) -> None:
        pass

    def epoch(self, record: dict[str, Any]) -> None:
        print(
            f"{self._name}: epoch {record['epoch']}/{record['epochs']}, held out "
            f"{record['holdout_accuracy']:.2%}, {record['seconds']:.0f} s",
            flush=True,
        )


def run_trials(
    trials: Iterable[Trial], ledger: Ledger, pictures: Pictures, states: Path, limit: int | None
) -> None:
    """Do those of `trials` that the ledger lacks, at most `limit` of them.

    Args:
        trials: in the order in which they are wanted.
        ledger: where their rows go.
        pictures: the training pictures, of which each trial holds some out by its seed.
        states: folder of the unfinished trials' states.
        limit: None for all.
    """
    keep_freed_pages()  # as `flatfold train` does
    todo = [trial for trial in trials if not ledger.find(**trial.key)]
    for trial in todo[:limit]:
        ledger.add(**trial.key, **_train(trial, pictures, states))
    left = len(todo) - len(todo[:limit])
    if left:
        print(f"{left} trainings left for the next call")


def _train(trial: Trial, pictures: Pictures, states: Path) -> dict[str, Any]:
    recipe = fit_recipe(trial.recipe, pictures)
    train, holdout = hold_out(pictures, recipe.holdout, trial.seed)
    compute = choose_compute("cpu", "auto")
    trainer = Trainer(recipe, train, holdout, seed=trial.seed, compute=compute)
    states.mkdir(parents=True, exist_ok=True)
    state = states / f"{'-'.join(str(value) for value in trial.key.values())}.safetensors"
    if state.exists():
        trainer.resume(state)
    trainer.run(state, _Progress(f"{trial.name}, seed {trial.seed}"))
    logits = trainer.logits(holdout.images)
    temperature = fit_temperature(logits.numpy(), holdout.labels.numpy())
    loss, accuracy = score(logits / temperature, holdout.labels)
    state.unlink()
    return {
        "accuracy": round(accuracy, 6),
        "loss": round(loss, 6),
        "held_out": len(holdout),
        "epochs": recipe.epochs,
        "operations": recipe.operations(len(train)),
        "seconds": round(sum(record["seconds"] for record in trainer.history), 1),
        "precision": compute.precision,
        "machine": machine(),
    }


def machine() -> str:
    """Return processor, threads, versions and commit in a few words."""
    threads = torch.get_num_threads()
    return (
        f"{cpu()}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, commit {commit()}"
    )


def add_trial_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every comparison of trainings takes."""
    parser.add_argument("--preset", default="fast", help="the recipe that is varied")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--limit", type=int, help="trainings in this call (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data-dir", help="CIFAR-10's folder")


def percent(rows: list[dict[str, Any]]) -> str:
    """Return the accuracy of some seeds: mean, smallest to largest, deviation, number."""
    found = [100 * row["accuracy"] for row in rows]
    if not found:
        return "not measured"
    if len(found) == 1:
        return f"{found[0]:.2f}, one run"
    return (
        f"{fmean(found):.2f} ({min(found):.2f} to {max(found):.2f}, deviation "
        f"{stdev(found):.2f}, {len(found)} runs)"
    )


def mean_loss(rows: list[dict[str, Any]]) -> str:
    """Return the mean loss of some seeds."""
    return f"{fmean(row['loss'] for row in rows):.4f}" if rows else "not measured"


def put_table(document: Path, name: str, table: str) -> None:
    """Replace what stands between the document's marks `<!-- name -->` and `<!-- /name -->`."""
    text = document.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(f"{document} needs the lines {start.strip()} and {end} once each")
    before, rest = text.split(start)
    with atomic_path(document) as temporary:
        temporary.write_text(f"{before}{start}{table}{end}{rest.split(end)[1]}", encoding="utf-8")
