"""Good and bad requests, and a client that knows which silence is a loss and which is not."""

from __future__ import annotations

import base64
import http.client
import json
import random
import struct
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLASSIFY = "/v1/classify"


@dataclass(frozen=True)
class Call:
    """One request, and the statuses that are right for it."""

    kind: str
    expected: frozenset[int]
    method: str = "POST"
    path: str = CLASSIFY
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def call(kind: str, *expected: int, **rest: object) -> Call:
    """Write a `Call` on one line."""
    return Call(kind, frozenset(expected), **rest)  # type: ignore[arg-type]  # checked by its use


def bomb() -> bytes:
    """A PNG of 60 bytes whose header promises 60000x60000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def good_calls(png: bytes, jpeg: bytes) -> list[Call]:
    """Pictures in each way that `/v1/classify` takes them."""
    coded = json.dumps({"images": [base64.b64encode(png).decode()]}).encode()
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="%b"\r\n\r\n%b\r\n'
    form = part % (b"a.png", png) + part % (b"b.jpg", jpeg) + b"--x--\r\n"
    return [
        call("png", 200, body=png, headers={"Content-Type": "image/png"}),
        call("jpeg", 200, body=jpeg, headers={"Content-Type": "image/jpeg"}),
        call("json", 200, body=coded, headers={"Content-Type": "application/json"}),
        call("form", 200, body=form, headers={"Content-Type": "multipart/form-data; boundary=x"}),
        call("models", 200, method="GET", path="/v1/models"),
    ]


def bad_calls(png: bytes, jpeg: bytes) -> list[Call]:
    """What clients get wrong, by accident or not."""
    image = {"Content-Type": "image/png"}
    return [
        call("empty", 400, 415, 422, headers=image),
        call("no picture", 400, 415, 422, body=b"<html>" * 50, headers=image),
        call("cut short", 400, 415, 422, body=jpeg[: len(jpeg) // 2], headers=image),
        call("bomb", 400, 413, 422, body=bomb(), headers=image),
        call("not JSON", 400, 422, body=b"{", headers={"Content-Type": "application/json"}),
        call("no such model", 404, path=f"{CLASSIFY}?model=none", body=png, headers=image),
        call("no such path", 404, method="GET", path="/nowhere"),
        call("wrong method", 405, method="DELETE"),
        call("wrong number", 400, 422, path=f"{CLASSIFY}?top_k=many", body=png, headers=image),
    ]


class UnansweredError(OSError):
    """The request went out, and not one byte came back."""


class Client:
    """One keep-alive connection, used as RFC 9112 (section 9.3.1) lets every client use it.

    A server may close an idle connection at any moment, also just when a request is under way to
    it; a request that met no byte of an answer on a *reused* connection is therefore sent once
    more on a new one, as every connection pool does. Anything else that goes unanswered is lost.
    """

    def __init__(self, port: int, *, keep_alive: bool = True) -> None:
        self.port = port
        self.keep_alive = keep_alive
        self.retried = 0
        self._connection: http.client.HTTPConnection | None = None

    def send(self, request: Call) -> int:
        """Return the status.

        Raises:
            ConnectionRefusedError: nobody listens any more; the request was never taken.
            OSError: the request was lost.
            HTTPException: likewise, within its answer.
        """
        if self._connection is not None:
            try:
                return self._exchange(self._connection, request)
            except UnansweredError:
                self.retried += 1
                self.close()
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return self._exchange(self._connection, request)

    def _exchange(self, connection: http.client.HTTPConnection, request: Call) -> int:
        try:
            if connection.sock is None:
                connection.connect()
            connection.request(request.method, request.path, request.body, request.headers)
            answer = connection.getresponse()
        except ConnectionRefusedError:
            self.close()
            raise
        except (ConnectionError, http.client.RemoteDisconnected) as error:
            raise UnansweredError(f"no byte of an answer: {error!r}") from error
        answer.read()
        if answer.will_close or not self.keep_alive:
            self.close()
        return answer.status

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Load:
    """Threads that send calls until `total` are answered or nobody listens any more.

    Every second thread opens a connection for each request, so that nothing is excused there.

    Attributes:
        answered: how often each (kind, status) came back.
        wrong: answers outside what their call expects.
        lost: requests that were sent and never answered.
        refused: connections that nobody took any more.
        retried: reused connections that were found closed.
    """

    port: int
    calls: list[Call]
    total: int
    threads: int = 8
    seed: int = 0
    answered: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    refused: int = 0
    retried: int = 0

    def run(self, milestone: int = 0, reached: Callable[[], None] | None = None) -> None:
        """Send everything; call `reached` in this thread once `milestone` answers have come."""
        lock, event = threading.Lock(), threading.Event()
        pending = self._draw()

        def work(number: int) -> None:
            client = Client(self.port, keep_alive=number % 2 == 0)
            while True:
                with lock:
                    request = next(pending, None)
                if request is None or not self._one(client, request, lock):
                    break
                if sum(self.answered.values()) >= milestone:
                    event.set()
            client.close()
            event.set()
            with lock:
                self.retried += client.retried

        workers = [threading.Thread(target=work, args=(i,)) for i in range(self.threads)]
        for worker in workers:
            worker.start()
        event.wait()
        if reached:
            reached()
        for worker in workers:
            worker.join()

    def _draw(self) -> Iterator[Call]:
        chosen = random.Random(self.seed)  # noqa: S311 (a repeatable mix, not a secret)
        return (chosen.choice(self.calls) for _ in range(self.total))

    def _one(self, client: Client, request: Call, lock: threading.Lock) -> bool:
        try:
            status = client.send(request)
        except ConnectionRefusedError:
            with lock:
                self.refused += 1
            return False
        except (OSError, http.client.HTTPException) as error:
            client.close()
            with lock:
                self.lost.append(f"{request.kind}: {error!r}")
            return True
        with lock:
            self.answered[request.kind, status] += 1
            if status not in request.expected:
                self.wrong.append(f"{request.kind}: {status}, not {sorted(request.expected)}")
        return True
