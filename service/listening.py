"""The listening socket, and what is said once it listens."""

from __future__ import annotations

import errno
import socket

from flatfold.contract.errors import FlatfoldError


def bind(host: str, port: int) -> socket.socket:
    """Return a listening-to-be socket.

    Raises:
        FlatfoldError: the address is taken, not this machine's, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        remedy = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise FlatfoldError(
            f"cannot listen on {host}:{port}: {error.strerror or error}{remedy}"
        ) from error
    listener.setblocking(False)
    return listener


def announce(listener: socket.socket, names: str) -> None:
    """Print where the server is, what it serves, and a command that uses it."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 (compared, not bound)
    print(f"flatfold serves {names} at http://{shown}:{port} (docs at /docs, Ctrl+C stops)")  # noqa: T201 (for the person at the terminal)
    url = f"http://{shown}:{port}/v1/classify?top_k=3"
    print(f"try: curl --data-binary @photo.jpg '{url}'", flush=True)  # noqa: T201 (likewise)
