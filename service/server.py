"""Running the application: the socket, uvicorn, and an end that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from time import monotonic
from typing import TYPE_CHECKING

import uvicorn

from flatfold.contract.errors import FlatfoldError
from service.app import build_app
from service.protocol import PatientProtocol
from service.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from service.config import Settings
    from service.state import State

# After SIGTERM idle connections stay this long: a request may be on its way already.
LAME_DUCK = 1.0  # seconds


class GracefulServer(uvicorn.Server):
    """A uvicorn server that stops without losing a request.

    On the first SIGTERM or SIGINT it is not ready at once, answers with `connection: close`, takes
    the connections that wait in the kernel's queue, closes the listener, gives idle connections a
    second for a request that is on its way, and finishes what is in flight. On the second it ends.
    """

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without raising them again: a finished server's exit code is 0."""
        handled = (signal.SIGTERM, signal.SIGINT)
        original = {number: signal.signal(number, self.handle_exit) for number in handled}
        try:
            yield
        finally:
            for number, handler in original.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; the second time, stop."""
        del frame
        if self.should_exit:
            os._exit(128 + sig)
        self._state.draining = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and only then say so."""
        await super().startup(sockets)
        for listener in sockets or []:
            announce(listener, self._state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as the class describes, within `timeout_graceful_shutdown` seconds."""
        ends = monotonic() + (self.config.timeout_graceful_shutdown or 0)
        await self._accept_waiting(sockets or [])
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await self._until_closed(min(ends, monotonic() + LAME_DUCK))
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._until_closed(ends)
        for task in self.server_state.tasks:
            task.cancel()

    async def _until_closed(self, ends: float) -> None:
        # uvicorn has no event for "the last connection closed"; it polls, too.
        while self.server_state.connections and monotonic() < ends:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _accept_waiting(self, listeners: list[socket.socket]) -> None:
        """Accept what the kernel has queued: closing the listener would reset it."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            with contextlib.suppress(BlockingIOError, OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        return PatientProtocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


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


def serve(settings: Settings) -> int:
    """Serve until a signal; return the exit code.

    Raises:
        FlatfoldError: the port is taken, or a model cannot be served.
    """
    listener = bind(settings.host, settings.port)
    app, state = build_app(settings)
    PatientProtocol.header_timeout = settings.header_timeout
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=round(settings.keep_alive),
        timeout_graceful_shutdown=round(settings.grace),
    )
    server = GracefulServer(config, state)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(server, state, listener))
    return 0


async def _serve(server: GracefulServer, state: State, listener: socket.socket) -> None:
    await state.repository.open()
    state.ready = True
    seconds = state.settings.watch
    watching = asyncio.create_task(Watcher(state.repository).run(seconds)) if seconds else None
    try:
        await server.serve(sockets=[listener])
    finally:
        state.ready = False
        if watching is not None:
            watching.cancel()
        await state.repository.drain()


def announce(listener: socket.socket, state: State) -> None:
    """Print where the server is and a command that uses it."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 (compared, not bound)
    names = ", ".join(sorted({served.model.name for served in state.repository.all()}))
    print(f"flatfold serves {names} at http://{shown}:{port} (docs at /docs, Ctrl+C stops)")  # noqa: T201 (for the person at the terminal)
    url = f"http://{shown}:{port}/v1/classify?top_k=3"
    print(f"try: curl --data-binary @photo.jpg '{url}'", flush=True)  # noqa: T201 (likewise)
