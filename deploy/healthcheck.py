#!/usr/bin/env python3
"""Exit 0 when the service in this container is ready, 1 with one line when it is not.

Docker runs this every few seconds, so it imports next to nothing: a bare socket starts in a third
of the time of `http.client`, on a machine whose cores belong to the model.
"""

import os
import socket
import sys

TIMEOUT_S = 2.5


def check(host: str, port: int) -> str:
    """Return an empty text when `GET /v2/health/ready` answers 200, else what came instead."""
    request = f"GET /v2/health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            connection.sendall(request.encode())
            status = connection.recv(64).decode("latin-1").partition("\r\n")[0]
    except OSError as error:
        return f"no answer from {host}:{port}: {error}"
    return "" if status.split(" ")[1:2] == ["200"] else f"not ready: {status!r}"


def address() -> tuple[str, int]:
    """Return where the service listens, as seen from inside: any-address means loopback."""
    host = os.environ.get("FLATFOLD_HOST", "0.0.0.0")  # noqa: S104 (compared with, never bound)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared with, never bound)
    return host, int(os.environ.get("FLATFOLD_PORT", "8000"))


if __name__ == "__main__":
    problem = check(*address())
    sys.exit(problem or 0)
