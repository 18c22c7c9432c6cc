from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from flatfold.cli import main
from tests.training.class_folders import paint
from tests.training.small_models import small_card, write_checkpoint, write_onnx

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class folders whose test share is 4 pictures."""
    return paint(tmp_path / "pictures", {"rose": 10, "grass": 10})


@pytest.mark.parametrize("suffix", ["safetensors", "onnx"])
def test_json_for_both_kinds_of_model(
    folder: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"model.{suffix}"
    (write_onnx if suffix == "onnx" else write_checkpoint)(path, small_card())
    assert main(["evaluate", str(path), "--data-dir", str(folder), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["images"] == 4
    assert measured["labels"] == ["grass", "rose"]
    assert sum(map(sum, measured["confusion"])) == 4
    assert 0 <= measured["accuracy_tta"] <= 1
    assert 0 <= measured["ece"] <= 1


def test_text_for_people(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_onnx(tmp_path / "model.onnx", small_card())
    arguments = ["evaluate", str(tmp_path / "model.onnx"), "--data-dir", str(folder)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "accuracy, single view" in text
    assert "accuracy, with TTA" in text
    assert main([*arguments, "--no-tta"]) == 0
    assert "TTA" not in capsys.readouterr().out


def test_a_name_of_two_lines_keeps_to_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = paint(tmp_path / "pictures", {"rose": 10, "grass": 10})
    (folder / "rose").rename(folder / "ro\nse")
    write_onnx(tmp_path / "model.onnx", replace(small_card(), labels=("grass", "ro\nse")))
    assert main(["evaluate", str(tmp_path / "model.onnx"), "--data-dir", str(folder)]) == 0
    head, grass, rose = capsys.readouterr().out.splitlines()[-3:]
    assert (head.split()[-1], grass.split()[0], rose.split()[0]) == ("ro\\ns", "grass", "ro\\nse")


def test_errors_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_onnx(tmp_path / "model.onnx", small_card())
    model, data = str(tmp_path / "model.onnx"), ["--data-dir", str(folder)]
    assert main(["evaluate", str(tmp_path / "no.onnx"), *data]) == 1
    assert main(["evaluate", model, "--batch-size", "0", *data]) == 2
    assert main(["evaluate", model, "--data-dir", str(tmp_path / "nowhere")]) != 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("flatfold: error: ") for line in lines)


def test_too_little_memory_is_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_onnx(tmp_path / "model.onnx", small_card())
    monkeypatch.setattr("training.evaluate.ask", lambda *_, **__: torch.empty(1 << 50))
    assert main(["evaluate", str(tmp_path / "model.onnx"), "--data-dir", str(folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("flatfold: error: out of memory: ")
