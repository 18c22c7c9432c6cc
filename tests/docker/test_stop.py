"""`docker stop`: what was begun is answered, and the exit code says so."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.docker.traffic import CLASSIFY, Load, good_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docker.engine import Served


HEAD = f"POST {CLASSIFY} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def begin(connection: socket.socket, length: int) -> None:
    """Send a request's head alone, and return once the server has asked for its body."""
    head = f"{HEAD}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(64).startswith(b"HTTP/1.1 100 ")


def answer(connection: socket.socket) -> bytes:
    """Read one answer whole; return its first line."""
    with connection.makefile("rb") as stream:
        status = stream.readline()
        assert status.startswith(b"HTTP/1.1 "), "closed without an answer"
        headers = dict(line.lower().split(b":", 1) for line in iter(stream.readline, b"\r\n"))
        stream.read(int(headers[b"content-length"]))
        return status.strip()


def await_draining(served: Served) -> None:
    """Poll until new requests are turned away: not ready, or nobody listening."""
    try:
        while served.request("GET", "/v2/health/ready")[0] == 200:
            pass
    except ConnectionError:
        pass


def test_requests_in_flight_are_answered(served: Served, png: bytes) -> None:
    connections = [socket.create_connection(("127.0.0.1", served.port), 60) for _ in range(8)]
    for connection in connections[:4]:  # half of them are kept alive from an earlier request
        begin(connection, len(png))
        connection.sendall(png)
        answer(connection)
    for connection in connections:
        begin(connection, len(png))
    with subprocess.Popen(["docker", "stop", "--time", "60", served.name]) as stopping:
        await_draining(served)
        for connection in connections:
            connection.sendall(png)
        answers = [answer(connection) for connection in connections]
        assert stopping.wait() == 0
    for connection in connections:
        connection.close()
    assert answers == [b"HTTP/1.1 200 OK"] * 8
    assert served.inspect()["State"]["ExitCode"] == 0


@pytest.mark.parametrize(("name", "workers"), [("served", 1), ("furnished", 2)])
def test_stopped_under_load_nothing_is_lost(
    request: pytest.FixtureRequest,
    png: bytes,
    jpeg: bytes,
    figure: Callable[[str], None],
    name: str,
    workers: int,
) -> None:
    container: Served = request.getfixturevalue(name)
    load = Load(container.port, good_calls(png, jpeg), total=100_000)
    codes: list[int] = []
    load.run(milestone=400, reached=lambda: codes.append(container.stop()))
    answered = sum(load.answered.values())
    figure(
        f"docker stop under load, {workers} workers: {answered} answered, {len(load.wrong)} wrong, "
        f"{len(load.lost)} lost, {load.refused} connections refused after it, "
        f"{load.retried} idle ones found closed, exit {codes[0]}"
    )
    assert (load.wrong, load.lost, codes) == ([], [], [0])
    assert load.refused == load.threads
    assert answered > 400
