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
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import command, commit, cpu
from benchmarks.training_port import Port, random_pictures
from benchmarks.trials import put_table, telling_errors
from flatfold.contract.files import atomic_path
from training.data import SIDE
from training.loop import Trainer
from training.memory import keep_freed_pages
from training.precision import choose_compute
from training.recipe import preset
from training.split import Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.precision import Compute
    from training.recipe import Recipe


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


def build_trainers(names: Sequence[str], compute: Compute) -> dict[str, Trainer]:
    """Return a run of each preset, seed 0, all on the same random pictures."""
    images, labels = random_pictures()
    trainers = {}
    for name in names:
        held = preset(name).holdout
        train, holdout = Split(images[held:], labels[held:]), Split(images[:held], labels[:held])
        trainers[name] = Trainer(preset(name), train, holdout, seed=0, compute=compute)
    return trainers


def measure(
    trainers: dict[str, Trainer], port: Port | None, turns: int, steps: int
) -> tuple[dict[str, dict[int, list[float]]], list[float]]:
    """Time `steps` steps of every phase of every run, and of the port, in each turn.

    Returns:
        The seconds of single steps: ours by preset and the pictures' side, and the port's.
    """
    ours: dict[str, dict[int, list[float]]] = {name: {} for name in trainers}
    theirs: list[float] = []
    for turn in range(turns):
        print(f"turn {turn + 1} of {turns}", flush=True)
        for name, trainer in trainers.items():
            for side, epochs in phases(trainer.recipe).items():
                ours[name].setdefault(side, []).extend(time_preset(trainer, epochs[0], steps))
        if port is not None:
            theirs += port.time(steps)
    return ours, theirs


def summaries(
    trainers: dict[str, Trainer], ours: dict[str, dict[int, list[float]]]
) -> dict[str, dict[str, Any]]:
    """Return each preset's `summary`, with its precision."""
    found = {}
    for name, trainer in trainers.items():
        epochs = {side: len(those) for side, those in phases(trainer.recipe).items()}
        compiled = ", compiled" if trainer.compute.compiled else ""
        found[name] = summary(ours[name], epochs, trainer.steps_per_epoch) | {
            "precision": trainer.compute.precision + compiled
        }
    return found


def report_on(recipes: dict[str, dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Return what is written down: the command, the recipes' figures and the machine."""
    given = command("benchmarks.training_speed")
    if args.beside:  # its place on this machine is nobody's business
        given = given.replace(str(args.beside), args.beside.name)
    return {
        "command": given,
        "recipes": recipes,
        "machine": {
            "processor": cpu(),
            "threads": args.threads,
            "commit": commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
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
    return parser.parse_args()


@telling_errors()
def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    keep_freed_pages()  # as `flatfold train` does
    compute = choose_compute("cpu", args.precision, compiled=args.compile)
    trainers = build_trainers(args.presets, compute)
    port = Port(args.beside, args.threads) if args.beside else None
    ours, theirs = measure(trainers, port, args.turns, args.steps)
    recipes = summaries(trainers, ours)
    if port is not None:
        port.close()
        whole = summary({SIDE: theirs}, {SIDE: port.epochs}, port.steps_per_epoch)
        for entry in recipes.values():
            entry["share"] = round(entry["seconds_of_training"] / whole["seconds_of_training"], 3)
        recipes[args.beside.stem] = whole | {"precision": "fp32"}
    report = report_on(recipes, args)
    with atomic_path(args.output) as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    put_table(args.document, "training-speed", table(report))
    print(table(report))


if __name__ == "__main__":
    main()
