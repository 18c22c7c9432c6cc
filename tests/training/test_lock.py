"""A run keeps its folder to itself, for as long as its process lives."""

from __future__ import annotations

import errno
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from flatfold.cli import main
from flatfold.contract.errors import UsageError
from tests.training.class_folders import paint
from tests.training.command_line import start, train_command
from training.lock import check_free, held

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such lock")


def test_a_folder_is_held_by_one_at_a_time_and_holds_no_file(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(UsageError, match="another `flatfold train` is at work"):
        check_free(tmp_path)
    check_free(tmp_path)
    check_free(tmp_path / "missing")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    with held(tmp_path):
        check_free(tmp_path)


def test_an_error_of_the_run_is_not_taken_for_one_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), held(tmp_path):
        raise OSError(errno.ENOSPC, "full")
    check_free(tmp_path)


def test_a_second_run_in_a_folder_is_told_until_the_first_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, output = paint(tmp_path / "pictures", {"rose": 20, "grass": 20}), tmp_path / "run"
    command = train_command(pictures, output, "--preset", "fast")
    again = command[command.index("train") :]
    first = start(command)
    assert first.stdout is not None
    try:
        assert any(line.startswith("epoch 1/") for line in first.stdout)
        first.send_signal(signal.SIGSTOP)  # so that it is still at work, however slow this one is
        before = (output / "state.safetensors").read_bytes()
        for more in ([], ["--resume"]):
            capsys.readouterr()
            assert main([*again, *more]) == 2
            error = capsys.readouterr().err
            assert error.count("\n") == 1
            assert f"another `flatfold train` is at work in {output}: wait" in error
        assert (output / "state.safetensors").read_bytes() == before
    finally:
        first.kill()
        first.communicate(timeout=300)
    assert main([*again, "--resume"]) == 0
    assert "resuming after epoch" in capsys.readouterr().out
