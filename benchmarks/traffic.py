"""Requests of all kinds, good and bad, each with the statuses that are right for it."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.bodies import TENSOR_JSON, body

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

OVERLOAD = {429, 503, 504}  # declared: queue full, not ready, deadline
BOUNDARY = "flatfold-soak"
LIMIT = 20.0  # seconds for one answer
MODEL = "cifar10"


@dataclass(frozen=True)
class Outcome:
    """What one request got.

    Attributes:
        kind: name of the request.
        status: the HTTP status; 0 where the connection ended without an answer.
        unexpected: what came, where the status is none of the right ones; else empty.
    """

    kind: str
    status: int
    unexpected: str = ""


class Traffic:
    """One client with a connection of its own, which draws requests at random."""

    def __init__(self, port: int, pictures: dict[str, bytes], rng: random.Random) -> None:
        self._port = port
        self._pictures = pictures
        self._rng = rng
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)
        self._answers: dict[str, str] = {}
        self._kinds: list[tuple[int, Callable[[], Outcome]]] = [
            (30, self._good_png),
            (10, self._good_jpeg),
            (10, self._good_tensor),
            (5, self._good_json),
            (5, self._multipart),
            (3, self._metrics),
            (5, self._truncated),
            (5, self._noise),
            (3, self._bad_json),
            (3, self._bad_tensor),
            (3, self._no_such_path),
            (2, self._bomb),
            (3, self._hang_up),
            (3, self._not_http),
            (3, self._short_deadline),
        ]

    @staticmethod
    def make_pictures() -> dict[str, bytes]:
        """Return the bodies that all clients share."""
        return {kind: body(kind, 7) for kind in ("png", "jpeg", "tensor")}

    def one(self) -> Outcome:
        """Send one request, drawn by weight."""
        weights = [weight for weight, _ in self._kinds]
        (_, send) = self._rng.choices(self._kinds, weights)[0]
        return send()

    def _post(self, kind: str, path: str, data: bytes, right: set[int], **headers: str) -> Outcome:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self._ask(kind, "POST", path, data, right, named)

    def _ask(  # noqa: PLR0913, PLR0917 (http.client's four, the name and the answers that are right)
        self,
        kind: str,
        method: str,
        path: str,
        data: bytes | None,
        right: set[int],
        headers: dict[str, str],
    ) -> Outcome:
        try:
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Outcome(kind, 0, repr(error))
        if response.status not in right | OVERLOAD:
            return Outcome(kind, response.status, answer[:200].decode("utf-8", "replace"))
        return Outcome(kind, response.status, self._changed(kind, response.status, answer))

    def _changed(self, kind: str, status: int, answer: bytes) -> str:
        """Return a complaint where the same good picture got another label than before."""
        if status != 200 or not kind.startswith("good") or kind == "good tensor":
            return ""
        best = json.loads(answer)["results"][0]["predictions"][0]["label"]
        before = self._answers.setdefault(kind, best)
        return "" if best == before else f"answered {best!r} after {before!r}"

    def _good_png(self) -> Outcome:
        data = self._pictures["png"]
        return self._post("good png", "/v1/classify", data, {200}, Content_Type="image/png")

    def _good_jpeg(self) -> Outcome:
        data = self._pictures["jpeg"]
        return self._post("good jpeg", "/v1/classify", data, {200}, Content_Type="image/jpeg")

    def _good_tensor(self) -> Outcome:
        length = str(len(TENSOR_JSON))
        return self._post(
            "good tensor",
            f"/v2/models/{MODEL}/infer",
            self._pictures["tensor"],
            {200},
            Inference_Header_Content_Length=length,
        )

    def _good_json(self) -> Outcome:
        text = base64.b64encode(self._pictures["png"]).decode()
        data = json.dumps({"images": [text], "top_k": 2}).encode()
        return self._post("good json", "/v1/classify", data, {200}, Content_Type="application/json")

    def _multipart(self) -> Outcome:
        parts = b"".join(
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
            f'filename="{name}"\r\n\r\n'.encode()
            + data
            + b"\r\n"
            for name, data in (("a.png", self._pictures["png"]), ("b.png", b"not a picture"))
        )
        data = parts + f"--{BOUNDARY}--\r\n".encode()
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self._post("multipart, one bad", "/v1/classify", data, {200}, Content_Type=kind)

    def _metrics(self) -> Outcome:
        return self._ask("metrics", "GET", "/metrics", None, {200}, {})

    def _truncated(self) -> Outcome:
        whole = self._pictures["jpeg"]
        data = whole[: self._rng.randrange(2, len(whole) // 2)]
        return self._post("truncated jpeg", "/v1/classify", data, {400, 415, 422})

    def _noise(self) -> Outcome:
        data = self._rng.randbytes(self._rng.randrange(1, 20_000))
        return self._post("noise", "/v1/classify", data, {400, 415, 422})

    def _bad_json(self) -> Outcome:
        data = b'{"images": [' * self._rng.randrange(1, 50)
        return self._post(
            "bad json", "/v1/classify", data, {400, 422}, Content_Type="application/json"
        )

    def _bad_tensor(self) -> Outcome:
        data = self._pictures["tensor"][: -self._rng.randrange(1, 3000)]
        length = str(len(TENSOR_JSON))
        return self._post(
            "short tensor",
            f"/v2/models/{MODEL}/infer",
            data,
            {400, 422},
            Inference_Header_Content_Length=length,
        )

    def _no_such_path(self) -> Outcome:
        path = f"/v9/{self._rng.randrange(10**9)}"
        return self._ask("no such path", "GET", path, None, {404}, {})

    def _bomb(self) -> Outcome:
        # A PNG header that promises 30000 x 30000 pixels.
        data = bytes.fromhex("89504e470d0a1a0a0000000d4948445200007530000075300802000000")
        return self._post("bomb", "/v1/classify", data + b"\0" * 40, {400, 413, 415, 422})

    def _short_deadline(self) -> Outcome:
        data = self._pictures["jpeg"]
        return self._post("short deadline", "/v1/classify", data, {200}, X_Request_Timeout="0.001")

    def _hang_up(self) -> Outcome:
        head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        return self._raw("gone in mid-upload", head + b"x" * self._rng.randrange(1, 50_000))

    def _not_http(self) -> Outcome:
        return self._raw("not http", self._rng.randbytes(200) + b"\r\n\r\n")

    def _raw(self, kind: str, data: bytes) -> Outcome:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=LIMIT) as client:
                client.sendall(data)
        except OSError as error:
            return Outcome(kind, 0, repr(error) if isinstance(error, TimeoutError) else "")
        return Outcome(kind, 0)
