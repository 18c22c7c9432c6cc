"""The image at work: over HTTP, over stdin, with other models, under 2,000 good and bad calls."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.docker.conftest import BODY_LIMIT, encode
from tests.docker.engine import docker, run_once
from tests.docker.traffic import CLASSIFY, Load, bad_calls, good_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docker.engine import Served

PNG = {"Content-Type": "image/png"}


def models(served: Served) -> list[str]:
    """The names that the service lists."""
    return [model["name"] for model in json.loads(served.request("GET", "/v1/models")[1])["models"]]


def test_it_serves_the_default_model(
    hardened: tuple[Served, str], served: Served, figure: Callable[[str], None]
) -> None:
    figure(hardened[1])
    assert models(served) == ["cifar10"]


def test_the_health_check_passes_and_fails(served: Served) -> None:
    command = served.inspect()["Config"]["Healthcheck"]["Test"][1:]
    assert served.execute(*command).returncode == 0
    elsewhere = served.execute(*command, options=["--env=FLATFOLD_PORT=1"])
    assert elsewhere.returncode == 1
    assert elsewhere.stderr.startswith(b"no answer from 127.0.0.1:1")


def test_the_engine_finds_it_healthy(served: Served) -> None:
    # The engine asks every ten seconds; each turn of this loop is one more look at its verdict.
    deadline = time.monotonic() + 60
    while (health := served.inspect()["State"]["Health"])["Status"] != "healthy":
        assert time.monotonic() < deadline, health


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_it_reads_every_picture_format(served: Served, kind: str) -> None:
    # The build removes libraries and cuts symbols off others: each decoder must still load.
    status, body = served.request("POST", CLASSIFY, encode(kind))
    assert status == 200, body
    assert len(json.loads(body)["results"][0]["predictions"]) == 5


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/metrics", "/v2/models/cifar10"])
def test_it_answers_at(served: Served, path: str) -> None:
    assert served.request("GET", path)[0] == 200


def test_it_shows_its_settings_and_where_they_come_from(served: Served) -> None:
    done = served.execute("flatfold", "serve", "--show-config")
    assert (done.returncode, done.stderr) == (0, b"")
    assert str(served.port) in done.stdout.decode()


def test_it_classifies_from_stdin(jpeg: bytes) -> None:
    done = run_once("classify", "-", data=jpeg)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads(done.stdout)["results"][0]["predictions"]) == 5


def test_it_writes_nothing_and_calls_nobody(served: Served, png: bytes) -> None:
    # onnxruntime 1.29 and later keep a device identifier and send telemetry unless told not to,
    # and the variable that tells them counts only before the import.
    assert served.request("POST", CLASSIFY, png, PNG)[0] == 200
    assert "ORT_DISABLE_TELEMETRY=1" in served.inspect()["Config"]["Env"]
    files = docker("exec", served.name, "find", "/tmp", "/dev/shm", "-type", "f")  # noqa: S108
    assert files.stdout == b""
    assert docker("diff", served.name).stdout == b""


def test_it_serves_the_models_of_a_mounted_folder(furnished: Served, png: bytes) -> None:
    assert models(furnished) == ["mine"]
    assert furnished.request("POST", CLASSIFY, png, PNG)[0] == 200


def test_the_environment_configures_it(furnished: Served) -> None:
    assert furnished.request("POST", CLASSIFY, bytes(BODY_LIMIT + 1), PNG)[0] == 413


def test_two_thousand_good_and_bad_requests(
    served: Served, png: bytes, jpeg: bytes, figure: Callable[[str], None]
) -> None:
    load = Load(served.port, good_calls(png, jpeg) + bad_calls(png, jpeg), total=2000)
    load.run()
    figure(f"after {sum(load.answered.values())} good and bad requests: {served.memory()}")
    assert (load.wrong, load.lost, load.refused) == ([], [], 0)
    assert sum(load.answered.values()) == 2000
    assert served.request("POST", CLASSIFY, png, PNG)[0] == 200
    state = served.inspect()["State"]
    assert (state["Running"], state["OOMKilled"]) == (True, False)
