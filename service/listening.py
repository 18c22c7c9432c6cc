"""The listening socket, what is said once it listens, and how it ends."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import sys

from flatfold.contract.errors import FlatfoldError

BACKLOG = 2048  # connections that nobody has accepted yet
# Seconds for connections that had begun when no new ones were let in: a long round trip.
HANDSHAKE = 0.2

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; the socket module does not name it
# A classic BPF program, over the bytes of a TCP segment: drop it if its SYN flag is set.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load byte 13, the flags
    (0x45, 0, 1, 0x02),  # SYN set? else skip one
    (0x06, 0, 0, 0),  # keep 0 bytes of it
    (0x06, 0, 0, 0xFFFFFFFF),  # keep all
)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens: connections wait in the kernel's queue until one accepts.

    It listens at once, since until one of them does, several servers can bind the same port.

    Raises:
        FlatfoldError: the address is taken, not this machine's, or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        remedy = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        raise FlatfoldError(
            f"cannot listen on {host}:{port}: {error.strerror or error}{remedy}"
        ) from error
    listener.setblocking(False)
    return listener


def refuse_new(listener: socket.socket) -> None:
    """Let no new connection begin on a listening socket; those that have begun still arrive.

    Closing a listener resets whatever came between the last accept and the close. On Linux a
    filter drops new ones before that: their clients try again, and find nobody listening. Elsewhere
    this does nothing.
    """
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN)
    program = ctypes.create_string_buffer(code)  # has to outlive the call
    head = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    with contextlib.suppress(OSError):  # a kernel or a sandbox without filters
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)


def announce(listener: socket.socket, names: str) -> None:
    """Print where the server is, what it serves, and a command that uses it."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 (compared, not bound)
    print(f"flatfold serves {names} at http://{shown}:{port} (docs at /docs, Ctrl+C stops)")  # noqa: T201 (for the person at the terminal)
    url = f"http://{shown}:{port}/v1/classify?top_k=3"
    print(f"try: curl --data-binary @photo.jpg '{url}'", flush=True)  # noqa: T201 (likewise)
