"""Running `flatfold train` in processes of its own, and reading what it left."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from safetensors import safe_open

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

EPOCHS = 3
CLOCK = ("seconds", "images_per_second")


def train_command(pictures: Path, output: Path, *more: str, launcher: str = "") -> list[str]:
    """Return the command for three epochs on tiny pictures; `launcher` stands before -m."""
    settings = f"--epochs {EPOCHS} --image-size 9 --threads 1 --precision fp32 --seed 3"
    places = ["--data-dir", str(pictures), "--output", str(output)]
    train = ["-m", "flatfold", "train", *settings.split(), *places, *more]
    return [sys.executable, *launcher.split(), *train]


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the process, which must end well, and return what it said."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def tensors(output: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a run's checkpoint."""
    with safe_open(output / "model.safetensors", framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # not a dict


def history(output: Path) -> list[dict[str, Any]]:
    """Return the log without what the clock decides."""
    records = [json.loads(line) for line in (output / "log.jsonl").open()]
    return [{key: v for key, v in record.items() if key not in CLOCK} for record in records]
