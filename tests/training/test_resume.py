"""`flatfold train` killed with SIGKILL and started again, against the same run left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

from tests.training.class_folders import paint

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

EPOCHS = 3


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("pictures"), {"rose": 30, "grass": 30})


def command(pictures: Path, output: Path, *more: str) -> list[str]:
    settings = f"--epochs {EPOCHS} --image-size 9 --threads 1 --precision fp32 --seed 3"
    places = ["--data-dir", str(pictures), "--output", str(output)]
    return [sys.executable, "-m", "flatfold", "train", *settings.split(), *places, *more]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ}
    )


def tensors(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # not a dict


def figures(output: Path) -> list[dict[str, float]]:
    """Return the log without what the clock decides."""
    records = [json.loads(line) for line in (output / "log.jsonl").open()]
    clock = ("seconds", "images_per_second")
    return [{k: v for k, v in record.items() if k not in clock} for record in records]


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_killed_and_resumed_ends_with_the_same_bits(
    pictures: Path, tmp_path: Path, preset: str
) -> None:
    unbroken = start(command(pictures, tmp_path / "unbroken", "--preset", preset))
    assert unbroken.wait(120) == 0, unbroken.communicate()[0]

    broken = start(command(pictures, tmp_path / "broken", "--preset", preset))
    assert broken.stdout is not None
    for line in broken.stdout:
        if line.startswith("epoch 1/"):
            broken.kill()
            break
    assert broken.wait(60) == -9
    assert not (tmp_path / "broken" / "model.safetensors").exists()

    resumed = start(command(pictures, tmp_path / "broken", "--preset", preset, "--resume"))
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    assert f"resuming after epoch 1 of {EPOCHS}" in said or "resuming after epoch 2" in said

    expected = tensors(tmp_path / "unbroken" / "model.safetensors")
    found = tensors(tmp_path / "broken" / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert value.tobytes() == found[name].tobytes(), name
    assert figures(tmp_path / "unbroken") == figures(tmp_path / "broken")
