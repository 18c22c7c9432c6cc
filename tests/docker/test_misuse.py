"""Bad uses of the image: one clear line each, and an exit code that is not zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.docker.engine import run_once

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.docker.engine import Served


def complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the one line that a failed run printed."""
    assert done.returncode != 0, done.stdout.decode()
    lines = done.stderr.decode().splitlines()
    assert [line for line in lines if line.startswith("Traceback")] == []
    errors = [line for line in lines if "error: " in line]
    assert len(errors) == 1, done.stderr.decode()
    return errors[0]


def serve(
    served: Served, *arguments: str, **settings: object
) -> subprocess.CompletedProcess[bytes]:
    """Try a second server beside the one that runs, with FLATFOLD_* settings of its own."""
    settings = {"PORT": 0, **settings}
    options = [f"--env=FLATFOLD_{name}={value}" for name, value in settings.items()]
    return served.execute("flatfold", "serve", *arguments, options=options)


def test_a_mounted_folder_that_the_user_may_not_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    line = complaint(run_once("serve", options=[f"--volume={tmp_path}:/models:ro"]))
    assert "/models" in line


def test_an_empty_model_folder(served: Served) -> None:
    assert "/tmp" in complaint(serve(served, MODELS="/tmp"))  # noqa: S108 (empty, and read-only)


def test_a_model_folder_that_is_not_there(served: Served) -> None:
    assert "/absent" in complaint(serve(served, MODELS="/absent"))


def test_a_model_that_is_not_there(served: Served) -> None:
    assert "/models/absent.onnx" in complaint(serve(served, "/models/absent.onnx"))


def test_a_wrong_flag(served: Served) -> None:
    done = serve(served, "--no-such-flag")
    assert done.returncode == 2
    assert "--no-such-flag" in complaint(done)


def test_a_wrong_setting(served: Served) -> None:
    done = serve(served, PORT="eight")
    assert done.returncode == 2
    assert "eight" in complaint(done)


def test_a_port_that_is_taken(served: Served) -> None:
    assert str(served.port) in complaint(serve(served, PORT=served.port))


def test_a_command_that_the_image_does_not_hold(served: Served) -> None:
    assert "train" in complaint(served.execute("flatfold", "train"))


def test_a_picture_that_is_none(served: Served) -> None:
    assert "picture" in complaint(served.execute("flatfold", "classify", "-", data=b"none"))


def test_workers_without_a_temporary_folder(served: Served) -> None:
    # The root is read-only and no --tmpfs is given: there is nowhere to share metrics.
    assert "temporary" in complaint(serve(served, "--workers", "2"))
