"""`python -m benchmarks.hostile`: clients that are gone or slow, and an end under load.

Each scenario starts a server of its own, plays, and says what happened. Exit 1 where one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bodies import body
from benchmarks.contenders import BY_NAME, environment_of
from benchmarks.launch import Server, free_port, post, stop_on_sigterm
from benchmarks.run import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    Ask = Callable[[http.client.HTTPConnection], None]

PNG = {"Content-Type": "image/png"}
PATH, LIVE = "/v1/classify", "/v2/health/live"
CLIENTS = 16
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n".encode()


@dataclasses.dataclass
class Tally:
    """What polite clients saw while the server was ended."""

    answered: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    refused: int = 0


def stopped_under_load(server: Server) -> str:
    """SIGTERM while 16 clients ask: each request that was sent on a connection gets its answer."""
    data = body("png", random.randrange(100))
    return _stopped(server, lambda connection: connection.request("POST", PATH, data, PNG))


def stopped_amid_connections(server: Server) -> str:
    """The same with a connection for each request, as many a second as the machine makes."""
    close = {"Connection": "close"}
    return _stopped(server, lambda connection: connection.request("GET", LIVE, headers=close))


def _stopped(server: Server, ask: Ask) -> str:
    tally, lock = Tally(), threading.Lock()
    clients = [
        threading.Thread(target=_ask_until_refused, args=(server.port, ask, tally, lock))
        for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    time.sleep(2)
    os.kill(server.pid, signal.SIGTERM)
    for client in clients:
        client.join(30)
    code = server.wait(30)
    assert not tally.lost, f"{len(tally.lost)} requests lost, first: {tally.lost[0]}"
    assert code == 0, f"exit code {code}"
    return f"{tally.answered} answered, 0 lost, {tally.refused} clients then refused, exit code 0"


def _ask_until_refused(port: int, ask: Ask, tally: Tally, lock: threading.Lock) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    while True:
        # A connection that the server has closed between requests is told apart from a lost
        # request: the client connects anew, and only a refused connection ends it.
        try:
            connection.connect()
        except ConnectionRefusedError:
            with lock:
                tally.refused += 1
            return
        except OSError as error:
            with lock:
                tally.lost.append(repr(error))
            continue
        try:
            while True:
                ask(connection)
                response = connection.getresponse()
                response.read()
                assert response.status == 200, response.status
                with lock:
                    tally.answered += 1
                if response.will_close:
                    break
        except (OSError, http.client.HTTPException, AssertionError) as error:
            with lock:
                tally.lost.append(repr(error))
        connection.close()


def gone_in_upload(server: Server) -> str:
    """200 clients hang up in the middle of their bodies."""
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * random.randrange(9000))
    return f"200 clients gone; {_healthy(server)}"


def gone_before_the_answer(server: Server) -> str:
    """200 clients send a whole picture and hang up at once."""
    data = body("png", 1)
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(HEAD + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
    return f"200 clients gone; {_healthy(server)}"


def slow_loris(server: Server) -> str:
    """100 connections whose header never ends; others are served meanwhile."""
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(100)]
    for client in slow:
        client.sendall(HEAD + b"X-Slow: ")
    began = time.monotonic()
    closed: set[int] = set()
    while len(closed) < len(slow) and time.monotonic() - began < 25:
        for number, client in enumerate(slow):
            if number not in closed and not _drip(client):
                closed.add(number)
        post(server.port, PATH, body("png", 1), PNG)
        time.sleep(0.2)
    for client in slow:
        client.close()
    assert len(closed) == len(slow), f"{len(slow) - len(closed)} of {len(slow)} still open"
    took = time.monotonic() - began
    return f"all 100 closed within {took:.1f} s (--header-timeout); {_healthy(server)}"


def _drip(client: socket.socket) -> bool:
    """Send one byte; return whether the server still listens."""
    client.setblocking(False)
    try:
        client.send(b"X")
        return client.recv(4096) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _healthy(server: Server) -> str:
    """Return the time of an ordinary request.

    Raises:
        AssertionError: it was not answered rightly.
    """
    began = time.perf_counter()
    status, answer = post(server.port, PATH, body("png", 1), PNG)
    assert status == 200, (status, answer)
    return f"then a picture answered in {1e3 * (time.perf_counter() - began):.0f} ms"


SCENARIOS: tuple[Callable[[Server], str], ...] = (
    stopped_under_load,
    stopped_amid_connections,
    gone_in_upload,
    gone_before_the_answer,
    slow_loris,
)


def main(arguments: list[str] | None = None) -> int:
    """Play all scenarios, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [scenario.__name__ for scenario in SCENARIOS]
    parser.add_argument("scenarios", nargs="*", help=f"of: {', '.join(names)}; all when none")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.scenarios if name not in names]:
        parser.error(f"unknown scenario {unknown[0]!r}; expected one of {', '.join(names)}")
    stop_on_sigterm()
    model = str(args.model.resolve())
    failed = 0
    for scenario in SCENARIOS:
        if args.scenarios and scenario.__name__ not in args.scenarios:
            continue
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="flatfold-hostile-") as folder:
            command = BY_NAME["ours"].command(Path(), model, port)
            log = Path(folder) / "log"
            with Server(command, environment_of(model), port, log) as server:
                server.wait_ready(PATH, body("png", 1), PNG, b"predictions", limit=60)
                try:
                    print(f"{scenario.__name__}: {scenario(server)}", flush=True)
                except (AssertionError, OSError) as error:
                    failed += 1
                    print(f"{scenario.__name__}: FAILED: {error}", file=sys.stderr)
                    with contextlib.suppress(OSError):
                        print(log.read_text()[-500:], file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
