"""Bad uses of the image: one clear line each, and an exit code that is not zero."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.docker.engine import run_once

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line that a failed run printed."""
    assert done.returncode != 0, done.stdout.decode()
    lines = done.stderr.decode().splitlines()
    assert [line for line in lines if line.startswith("Traceback")] == []
    errors = [line for line in lines if "error: " in line]
    assert len(errors) == 1, done.stderr.decode()
    return errors[0]


def test_an_empty_model_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    line = complaint(run_once("serve", options=[f"--volume={tmp_path}:/models:ro"]))
    assert "/models" in line


def test_a_model_folder_that_the_user_may_not_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    line = complaint(run_once("serve", options=[f"--volume={tmp_path}:/models:ro"]))
    assert "/models" in line


def test_a_model_that_is_not_there() -> None:
    line = complaint(run_once("serve", "/models/absent.onnx"))
    assert "/models/absent.onnx" in line


def test_a_wrong_flag() -> None:
    done = run_once("serve", "--no-such-flag")
    assert done.returncode == 2
    assert "--no-such-flag" in complaint(done)


def test_a_wrong_setting() -> None:
    done = run_once("serve", options=["--env=FLATFOLD_PORT=eight"])
    assert done.returncode == 2
    assert "eight" in complaint(done)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = [f"--env=FLATFOLD_PORT={port}"]
        assert str(port) in complaint(run_once("serve", options=options))


def test_a_command_that_the_image_does_not_hold() -> None:
    assert "train" in complaint(run_once("train"))


def test_workers_without_a_temporary_folder() -> None:
    # The root is read-only and no --tmpfs is given: there is nowhere to share metrics.
    line = complaint(run_once("serve", "--workers", "2"))
    assert "temporary" in line
