"""uvicorn's server with an end that loses no request."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING

import uvicorn

from service.listening import HANDSHAKE, refuse_new
from service.protocol import PatientProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from types import FrameType

    from service.state import State

# After SIGTERM idle connections stay this long: a request may be on its way already.
LAME_DUCK = 1.0  # seconds
# After `--grace` the requests that are cut off get this long to be told, and the process to end.
LAST_WORDS = 0.5  # seconds

logger = logging.getLogger(__name__)


class GracefulServer(uvicorn.Server):
    """A uvicorn server that stops without losing a request.

    On the first SIGTERM or SIGINT it is not ready at once, answers with `connection: close`, lets
    no new connection begin, takes those that have, closes the listener, gives idle connections a
    second for a request that is on its way, and finishes what is in flight. What is not done
    within `Settings.grace` seconds gets 503, and the process ends. On the second signal it ends.

    Args:
        config: uvicorn's settings.
        state: the service; told when it begins to stop.

    Attributes:
        signals: those that it handles.
        on_signal: what the first signal does; `stop`, unless somebody else has to be asked.
        on_started: called once connections are answered.
    """

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self.state = state
        self.signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
        self.on_signal: Callable[[], None] = self.stop
        self.on_started: Callable[[], None] = lambda: None
        self._signalled = False
        self._ends = 0.0  # `time.monotonic()` when grace is over
        self._taking: set[asyncio.Task[object]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without raising them again: a finished server's exit code is 0."""
        original = {number: signal.signal(number, self.handle_exit) for number in self.signals}
        try:
            yield
        finally:
            for number, handler in original.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; the second time, end."""
        del frame
        if self._signalled:
            os._exit(128 + sig)
        self._signalled = True
        self.on_signal()

    def stop(self) -> None:
        """Begin to stop; where that has begun, do nothing."""
        if not self.should_exit:
            self._ends = monotonic() + self.state.settings.grace
            self.state.draining = True
            self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and only then say so."""
        await super().startup(sockets)
        self.on_started()

    def take(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        """Serve a connection that was accepted elsewhere."""
        taking = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as the class describes."""
        ends = self._ends
        _leave_in(max(0.0, ends - monotonic()) + LAST_WORDS)
        await self._accept_last(sockets or [], ends)
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        await self._until_closed(min(ends, monotonic() + LAME_DUCK))
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._until_closed(ends)
        await self._cut_off()

    async def _cut_off(self) -> None:
        """Cancel what is still in flight, and wait until its clients have been told."""
        tasks = set(self.server_state.tasks)
        if not tasks:
            return
        grace = self.state.settings.grace
        logger.warning("--grace %g s is over; requests that get 503: %d", grace, len(tasks))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=LAST_WORDS)

    async def _until_closed(self, ends: float) -> None:
        # uvicorn has no event for "the last connection closed"; it polls, too.
        while (self._taking or self.server_state.connections) and monotonic() < ends:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _accept_last(self, listeners: list[socket.socket], ends: float) -> None:
        """Accept what has begun to connect: closing the listener would reset it."""
        if not listeners:
            return
        for listener in listeners:
            refuse_new(listener)
        await asyncio.sleep(min(HANDSHAKE, max(0.0, ends - monotonic())))  # still accepting
        loop = asyncio.get_running_loop()
        for listener in listeners:
            with contextlib.suppress(BlockingIOError, OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    self.take(loop, connection)

    def _protocol(self) -> asyncio.Protocol:
        return PatientProtocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _leave_in(seconds: float) -> None:
    """End the process then, should it still be there, as if it had come to its end.

    An interpreter that ends waits for its threads, and one inside a model cannot be interrupted.
    """
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), _leave)
    timer.daemon = True
    timer.start()


def _leave() -> None:
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 (no public name; logs and spans are flushed there)
    finally:
        os._exit(0)
