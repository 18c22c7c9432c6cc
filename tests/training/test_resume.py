"""`flatfold train` killed with SIGKILL and started again, against the same run left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training.class_folders import paint
from tests.training.command_line import EPOCHS, finish, history, start, tensors, train_command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_killed_and_resumed_ends_with_the_same_bits(tmp_path: Path, preset: str) -> None:
    pictures = paint(tmp_path / "pictures", {"rose": 30, "grass": 30})
    settings = ("--preset", preset)
    finish(start(train_command(pictures, tmp_path / "unbroken", *settings)))

    broken = start(train_command(pictures, tmp_path / "broken", *settings))
    assert broken.stdout is not None
    for line in broken.stdout:
        if line.startswith("epoch 1/"):
            broken.kill()
            break
    assert broken.wait(300) == -9
    assert not (tmp_path / "broken" / "model.safetensors").exists()

    said = finish(start(train_command(pictures, tmp_path / "broken", *settings, "--resume")))
    assert any(f"resuming after epoch {done} of {EPOCHS}" in said for done in (1, 2))
    expected, found = tensors(tmp_path / "unbroken"), tensors(tmp_path / "broken")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert value.tobytes() == found[name].tobytes(), name
    assert history(tmp_path / "unbroken") == history(tmp_path / "broken")
