"""The image at work: over HTTP, over stdin, with other models, under 2,000 good and bad calls."""

from __future__ import annotations

import json
import shutil
import time
from datetime import datetime
from typing import TYPE_CHECKING

from tests.docker.conftest import ROOT
from tests.docker.engine import docker, run_once
from tests.docker.traffic import CLASSIFY, Load, bad_calls, good_calls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.docker.engine import Served

MODEL = ROOT / "flatfold" / "models" / "cifar10.onnx"
PNG = {"Content-Type": "image/png"}


def models(served: Served) -> list[str]:
    """The names that the service lists."""
    return [model["name"] for model in json.loads(served.request("GET", "/v1/models")[1])["models"]]


def mounted(tmp_path: Path, name: str) -> str:
    """Options that mount a folder with the default model under another name, for any user."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(MODEL, folder / f"{name}.onnx")
    for path in (tmp_path, folder):
        path.chmod(0o755)
    return f"--volume={folder}:/models:ro"


def memory(served: Served) -> str:
    """What the container's control group and its first process hold, as one line."""
    usage = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", served.name).stdout
    status = docker("exec", served.name, "cat", "/proc/1/status").stdout.decode()
    resident = next(line.split(":")[1].strip() for line in status.splitlines() if "VmRSS" in line)
    return f"{usage.decode().split('/')[0].strip()} in the container, {resident} resident"


def test_it_serves_the_default_model(
    served: Served, png: bytes, figure: Callable[[str], None]
) -> None:
    began = time.time()
    served.start()
    status, body = served.first_answer("POST", CLASSIFY, png, PNG)
    answered = time.time()
    started = datetime.fromisoformat(served.inspect()["State"]["StartedAt"][:26] + "+00:00")
    figure(
        f"first answer {answered - began:.2f} s after docker run, "
        f"{answered - started.timestamp():.2f} s after the process started"
    )
    assert status == 200, body
    assert models(served) == ["cifar10"]
    figure(f"idle: {memory(served)}")


def test_the_health_check_passes_and_fails(served: Served) -> None:
    served.start()
    served.wait_ready()
    command = served.inspect()["Config"]["Healthcheck"]["Test"][1:]
    assert docker("exec", served.name, *command).returncode == 0
    elsewhere = docker("exec", "-e", "FLATFOLD_PORT=1", served.name, *command)
    assert elsewhere.returncode == 1
    assert elsewhere.stderr.startswith(b"no answer from 127.0.0.1:1")


def test_it_classifies_from_stdin(jpeg: bytes) -> None:
    done = run_once("classify", "-", data=jpeg)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads(done.stdout)["results"][0]["predictions"]) == 5


def test_it_writes_nothing_and_calls_nobody(served: Served, png: bytes) -> None:
    # onnxruntime 1.29 and later keep a device identifier and send telemetry unless told not to,
    # and the variable that tells them counts only before the import.
    served.start()
    served.wait_ready()
    assert served.request("POST", CLASSIFY, png, PNG)[0] == 200
    assert "ORT_DISABLE_TELEMETRY=1" in served.inspect()["Config"]["Env"]
    files = docker("exec", served.name, "find", "/tmp", "/dev/shm", "-type", "f")  # noqa: S108
    assert files.stdout == b""
    assert docker("diff", served.name).stdout == b""


def test_it_serves_the_models_of_a_mounted_folder(
    served: Served, tmp_path: Path, png: bytes
) -> None:
    served.start(options=[mounted(tmp_path, "mine")])
    served.wait_ready()
    assert models(served) == ["mine"]
    assert served.request("POST", CLASSIFY, png, PNG)[0] == 200


def test_the_environment_configures_it(served: Served, png: bytes) -> None:
    served.start(options=["--env=FLATFOLD_MAX_BODY=16"])
    served.wait_ready()
    assert served.request("POST", CLASSIFY, png, PNG)[0] == 413


def test_two_thousand_good_and_bad_requests(
    served: Served, png: bytes, jpeg: bytes, figure: Callable[[str], None]
) -> None:
    served.start()
    served.wait_ready()
    load = Load(served.port, good_calls(png, jpeg) + bad_calls(png, jpeg), total=2000)
    load.run()
    figure(f"after {sum(load.answered.values())} good and bad requests: {memory(served)}")
    assert (load.wrong, load.lost, load.refused) == ([], [], 0)
    assert sum(load.answered.values()) == 2000
    assert served.request("POST", CLASSIFY, png, PNG)[0] == 200
    state = served.inspect()["State"]
    assert (state["Running"], state["OOMKilled"]) == (True, False)
