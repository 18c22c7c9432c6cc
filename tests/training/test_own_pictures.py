"""From class folders to an .onnx file that knows their names: train, export, evaluate."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flatfold.cli import main
from tests.training.class_folders import paint_noise
from training.predictor import load_predictor

if TYPE_CHECKING:
    from pathlib import Path


def test_the_exported_model_serves_the_folders_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("rose", "grass", "blue sky")
    pictures = str(paint_noise(tmp_path / "flowers", names, 30))
    run, onnx = tmp_path / "run", str(tmp_path / "flowers.onnx")
    settings = "--preset fast --image-size 12 --epochs 6 --threads 1 --precision fp32"
    assert main(["train", "--data-dir", pictures, "-o", str(run), *settings.split()]) == 0
    checkpoint = str(run / "model.safetensors")
    assert main(["export", checkpoint, "-o", onnx]) == 0
    assert load_predictor(onnx).card.labels == ("blue sky", "grass", "rose")

    measured = []
    for model in (checkpoint, onnx):
        capsys.readouterr()
        assert main(["evaluate", model, "--data-dir", pictures, "--json"]) == 0
        measured.append(json.loads(capsys.readouterr().out))
    assert measured[0]["accuracy"] > 0.6
    assert measured[0]["confusion"] == measured[1]["confusion"]
    # Not the calibration error: a probability of 1/3 is on the edge of two of its 15 bins.
    assert measured[0]["log_loss"] == pytest.approx(measured[1]["log_loss"], abs=1e-5)
