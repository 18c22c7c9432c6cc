"""Seconds of training that the presets need here, beside another recipe's on the same machine.

    python -m benchmarks.training_speed --beside PORT.py

writes docs/training-speed.json and the table in docs/training.md. Speed does not depend on what
the pictures show, so random ones stand for CIFAR-10's. PORT.py is a scratch port of the other
recipe: it defines EPOCHS, STEPS_PER_EPOCH and build(images, labels), which takes uint8
(50000, 32, 32, 3) and int64 (50000,) tensors and returns a function that trains one step in
float32. It runs in a process of its own, without what a run of ours sets for its process. All take
turns, so that a change of the machine's speed meets all.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import shlex
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import commit, cpu
from benchmarks.trials import put_table
from flatfold.contract.files import atomic_path
from training.data import SIDE
from training.loop import Trainer
from training.memory import keep_freed_pages
from training.precision import choose_compute
from training.recipe import preset
from training.split import Split

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from training.recipe import Recipe

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


def phases(recipe: Recipe) -> dict[int, list[int]]:
    """Return the epochs that see the pictures at each side: only those cost the same."""
    found: dict[int, list[int]] = {}
    for epoch in range(recipe.epochs):
        found.setdefault(recipe.side(epoch), []).append(epoch)
    return found


def time_preset(trainer: Trainer, epoch: int, steps: int) -> list[float]:
    """Return the seconds of `steps` steps of a run, from the beginning of `epoch` on."""
    watch = _Stopwatch(steps)
    trainer.next_epoch = epoch
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


def summary(timed: dict[int, list[float]], epochs: dict[int, int], steps: int) -> dict[str, Any]:
    """Return what a step of each phase, and the whole training, take.

    Args:
        timed: seconds of single steps, by the pictures' side.
        epochs: how many epochs, by the pictures' side.
        steps: steps in an epoch.
    """
    medians = {side: statistics.median(seconds) for side, seconds in timed.items()}
    return {
        "phases": [
            {
                "side": side,
                "epochs": epochs[side],
                "steps_timed": len(seconds),
                "seconds_per_step": {
                    "median": round(medians[side], 4),
                    "smallest": round(min(seconds), 4),
                    "largest": round(max(seconds), 4),
                },
                "seconds_per_epoch": round(medians[side] * steps, 1),
            }
            for side, seconds in timed.items()
        ],
        "steps_per_epoch": steps,
        "seconds_of_training": round(
            sum(medians[side] * steps * count for side, count in epochs.items()), 1
        ),
    }


class Port:
    """The other recipe, in a process of its own.

    Args:
        path: the scratch port.
        threads: PyTorch's threads.
    """

    def __init__(self, path: Path, threads: int) -> None:
        module = load_port(path)
        self.steps_per_epoch: int = module.STEPS_PER_EPOCH
        self.epochs: int = module.EPOCHS
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _build, (path, threads))

    def time(self, steps: int) -> list[float]:
        """Return the seconds of `steps` steps."""
        return self._process.submit(_time_built, steps).result()


_built: list[Callable[[], object]] = []  # in the port's process: its step


def _build(path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    _built.append(load_port(path).build(*random_pictures()))


def _time_built(steps: int) -> list[float]:
    return time_steps(_built[0], steps)


def load_port(path: Path) -> ModuleType:
    """Import the scratch port at `path`."""
    spec = importlib.util.spec_from_file_location("port", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 (50000, 32, 32, 3) and int64 (50000,): speed does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (PICTURES, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (PICTURES,), generator=generator)


def table(report: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    machine = report["machine"]
    lines = [
        "| recipe | pictures | seconds a step: median (smallest to largest) | epochs | training |",
        "|---|---|---:|---:|---:|",
    ]
    for name, entry in report["recipes"].items():
        share = f", {entry['share']:.0%}" if "share" in entry else ""
        cells = [f"{name}, {entry['precision']}", f"{entry['seconds_of_training']:.0f} s{share}"]
        for phase in entry["phases"]:
            step = phase["seconds_per_step"]
            spread = f"({step['smallest']:.2f} to {step['largest']:.2f})"
            lines.append(
                f"| {cells[0]} | {phase['side']} px "
                f"| {step['median']:.2f} {spread}, {phase['steps_timed']} steps "
                f"| {phase['epochs']} of {phase['seconds_per_epoch']:.0f} s | {cells[1]} |"
            )
            cells = ["", ""]  # named and summed up in the recipe's first row
    facts = ", ".join(f"{key} {value}" for key, value in machine.items())
    return "\n".join([*lines, "", f"`{report['command']}`: {facts}."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["fast", "standard", "best"])
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="timed in each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--beside", type=Path, help="a scratch port of another recipe")
    parser.add_argument("--output", type=Path, default=Path("docs/training-speed.json"))
    parser.add_argument("--document", type=Path, default=Path("docs/training.md"))
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    keep_freed_pages()  # as `flatfold train` does
    images, labels = random_pictures()
    compute = choose_compute("cpu", args.precision, compiled=args.compile)
    trainers = {}
    for name in args.presets:
        held = preset(name).holdout
        train, holdout = Split(images[held:], labels[held:]), Split(images[:held], labels[:held])
        trainers[name] = Trainer(preset(name), train, holdout, seed=0, compute=compute)
    port = Port(args.beside, args.threads) if args.beside else None

    at = {name: phases(trainer.recipe) for name, trainer in trainers.items()}
    ours: dict[str, dict[int, list[float]]] = {
        name: {side: [] for side in sides} for name, sides in at.items()
    }
    theirs: list[float] = []
    for turn in range(args.turns):
        print(f"turn {turn + 1} of {args.turns}", flush=True)
        for name, trainer in trainers.items():
            for side, epochs in at[name].items():
                ours[name][side] += time_preset(trainer, epochs[0], args.steps)
        if port is not None:
            theirs += port.time(args.steps)
    recipes: dict[str, dict[str, Any]] = {
        name: summary(
            ours[name],
            {side: len(epochs) for side, epochs in at[name].items()},
            trainer.steps_per_epoch,
        )
        | {"precision": compute.precision + (", compiled" if args.compile else "")}
        for name, trainer in trainers.items()
    }
    if port is not None:
        whole = summary({SIDE: theirs}, {SIDE: port.epochs}, port.steps_per_epoch)
        for entry in recipes.values():
            entry["share"] = round(entry["seconds_of_training"] / whole["seconds_of_training"], 3)
        recipes[args.beside.stem] = whole | {"precision": "fp32"}
    report: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.training_speed", *sys.argv[1:]]),
        "recipes": recipes,
        "machine": {
            "processor": cpu(),
            "threads": args.threads,
            "commit": commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    if args.beside:  # its place on this machine is nobody's business
        report["command"] = report["command"].replace(str(args.beside), args.beside.name)
    with atomic_path(args.output) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    put_table(args.document, "training-speed", table(report))
    print(table(report))


if __name__ == "__main__":
    main()
