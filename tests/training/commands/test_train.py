from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from flatfold.cli import main
from training.commands.train import add_arguments

if TYPE_CHECKING:
    import pytest


def test_the_help_tells_the_default_folder() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    default = parser.parse_args([]).output
    assert default == Path("runs/latest")
    assert f"(default: {default})" in " ".join(parser.format_help().split())


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.session.run_session", lambda _: torch.empty(1 << 50))
    assert main(["train"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("flatfold: error: out of memory: ")
