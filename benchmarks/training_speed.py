"""Seconds of training that a preset needs here, beside another recipe's on the same machine.

    python -m benchmarks.training_speed --preset standard --beside PORT.py

Speed does not depend on what the pictures show, so random ones stand for CIFAR-10's. PORT.py is a
scratch port of the other recipe: it defines EPOCHS, STEPS_PER_EPOCH and build(images, labels),
which takes uint8 (50000, 32, 32, 3) and int64 (50000,) tensors and returns a function that trains
one step. Both take turns, so that a change of the machine's speed meets both.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import commit, cpu
from training.loop import Split, Trainer
from training.precision import choose_compute
from training.recipe import preset

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

PICTURES = 50_000


class _EnoughError(Exception):
    """As many steps as asked for were timed."""


class _Stopwatch:
    """An observer that times steps and ends the run after `steps`, not counting the first."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self._last = 0.0
        self.seconds: list[float] = []

    def batch(self, *_: object) -> None:
        now = time.perf_counter()
        if self._last:
            self.seconds.append(now - self._last)
            self._left -= 1
        if self._left == 0:
            raise _EnoughError
        self._last = time.perf_counter()

    def epoch(self, *_: object) -> None:
        self._last = 0.0  # the held-out pictures and the state between two epochs are no step


def time_preset(trainer: Trainer, steps: int) -> list[float]:
    """Return the seconds of `steps` steps of a run."""
    watch = _Stopwatch(steps)
    with tempfile.TemporaryDirectory() as folder:
        try:
            trainer.run(Path(folder) / "state.safetensors", watch)
        except _EnoughError:
            return watch.seconds
    raise ValueError(f"the run ended before {steps} steps were timed")


def time_steps(step: Callable[[], object], steps: int) -> list[float]:
    """Return the seconds of `steps` calls of `step`, after one that is not counted."""
    step()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return seconds


def summary(seconds: list[float], steps_per_epoch: int, epochs: int) -> dict[str, Any]:
    """Return the median step, its spread, and what an epoch and the whole training take."""
    median = statistics.median(seconds)
    return {
        "steps_timed": len(seconds),
        "seconds_per_step": {
            "median": round(median, 4),
            "smallest": round(min(seconds), 4),
            "largest": round(max(seconds), 4),
        },
        "steps_per_epoch": steps_per_epoch,
        "epochs": epochs,
        "seconds_per_epoch": round(median * steps_per_epoch, 1),
        "seconds_of_training": round(median * steps_per_epoch * epochs, 1),
    }


def load_port(path: Path) -> ModuleType:
    """Import the scratch port at `path`."""
    spec = importlib.util.spec_from_file_location("port", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="timed in each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--beside", type=Path, help="a scratch port of another recipe")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (PICTURES, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (PICTURES,), generator=generator)
    recipe = preset(args.preset)
    compute = choose_compute("cpu", args.precision)
    held = recipe.holdout
    train, holdout = Split(images[held:], labels[held:]), Split(images[:held], labels[:held])
    trainer = Trainer(recipe, train, holdout, seed=0, compute=compute)
    port = load_port(args.beside) if args.beside else None
    step = port.build(images, labels) if port else None

    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(args.turns):
        ours += time_preset(trainer, args.steps)
        if step is not None:
            theirs += time_steps(step, args.steps)
    report: dict[str, Any] = {
        args.preset: summary(ours, trainer.steps_per_epoch, recipe.epochs)
        | {"precision": compute.precision}
    }
    if port is not None:
        report[args.beside.stem] = summary(theirs, port.STEPS_PER_EPOCH, port.EPOCHS)
        spent = [entry["seconds_of_training"] for entry in report.values()]
        report["share_of_its_seconds"] = round(spent[0] / spent[1], 3)
    report["machine"] = {
        "processor": cpu(),
        "commit": commit(),
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
