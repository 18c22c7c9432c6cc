"""One server process of several: how its parent sees it, and what it does itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
from multiprocessing import resource_tracker
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from flatfold.contract.errors import FlatfoldError
from service import logs, metrics, orders
from service.dealing import PAUSE
from service.descriptors import is_room_for
from service.server import make_server, run_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import SpawnProcess

    from service.config import Settings

# What a worker says: its state, a space and a text where there is one, and the end.
_READY, _FAILED, LEAVING = b"ready", b"failed", b"leaving"
_END = b"\0"
# What goes over its line: connections, each with one byte, and this.
_REPLACED = b"r"

SLOW_START = 60.0  # seconds until a start that takes long is logged, again and again

logger = logging.getLogger(__name__)


class Worker:
    """One server process, seen from the parent.

    Args:
        settings: of the server.
        replaces: it takes the place of another, and has to go on with the models that are good.
    """

    def __init__(self, settings: Settings, *, replaces: bool = False) -> None:
        self._line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # News come over a socket of their own: when a parent dies with something unread, the
        # socket that it came over ends in an error, and libuv keeps errors to itself.
        self._news, news = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unread = b""
        context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess = context.Process(
            target=work, args=(settings, line, news), kwargs={"tolerant": replaces}
        )
        with _without_interrupts():
            self._process.start()
        line.close()
        news.close()
        self._line.setblocking(False)
        self._news.setblocking(False)
        self.ready = False

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid or 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    async def started(self) -> str:
        """Return the served models' names once the worker is ready.

        However long that takes: a model may be compiled for minutes, and one that dies is heard of.

        Raises:
            FlatfoldError: it could not start; the message is the worker's.
        """
        began = monotonic()
        hearing = asyncio.create_task(self.hear())
        while not (await asyncio.wait((hearing,), timeout=SLOW_START))[0]:
            waited = monotonic() - began
            logger.warning("worker process %d is still starting after %.0f s", self.pid, waited)
        kind, _, text = hearing.result().partition(b" ")
        if kind != _READY:
            self.forget()
            raise FlatfoldError(text.decode() or "a worker ended while it started")
        self.ready = True
        return text.decode()

    async def hear(self) -> bytes:
        """Return the next of the worker's news; b"" when it has ended."""
        loop = asyncio.get_running_loop()
        while _END not in self._unread:
            more = await loop.sock_recv(self._news, 65_536)
            if not more:
                return b""
            self._unread += more
        said, _, self._unread = self._unread.partition(_END)
        return said

    def give(self, connection: socket.socket) -> bool:
        """Pass a connection on; return False where the worker is dead or has no room for more."""
        if not self.ready:
            return False
        try:
            socket.send_fds(self._line, [b"c"], [connection.fileno()])
        except OSError:
            return False
        return True

    async def ended(self, seconds: float | None = None) -> int | None:
        """Wait for the process's end, so many seconds at most; return its exit code."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, over.set)
        try:
            async with asyncio.timeout(seconds):
                await over.wait()
            self._process.join()
        except TimeoutError:
            return None
        finally:
            loop.remove_reader(self._process.sentinel)
        return self._process.exitcode

    def finish(self, *, replaced: bool = False) -> None:
        """Ask it to finish: the line's end comes behind every connection that went over it.

        Args:
            replaced: it may tell probes that the server is ready.
        """
        if replaced:
            with contextlib.suppress(OSError):  # no room, or it is dead
                self._line.send(_REPLACED)
        self._line.shutdown(socket.SHUT_WR)

    def forget(self) -> None:
        """Leave it out of what the others add up and wait for: it has ended."""
        metrics.forget_worker(self.pid)
        orders.forget_worker(Path(os.environ[metrics.SHARED_FOLDER]), str(self.pid))

    def kill(self) -> None:
        """End it."""
        self._process.kill()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Have a process that starts here hear no SIGINT until it has said what to do about one.

    A terminal's Ctrl+C goes to all processes: one that imports its modules would show where.
    """
    resource_tracker.ensure_running()  # its own start lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work(
    settings: Settings, line: socket.socket, news: socket.socket, *, tolerant: bool = False
) -> None:
    """Be a worker: serve what comes over `line`, and say over `news` how it goes.

    Args:
        settings: of the server.
        line: brings connections; its end means to finish.
        news: takes what the parent should know.
        tolerant: models that cannot be served are left out.
    """
    logs.configure(settings.log_level, settings.log_format)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl+C is the parent's to handle

    def say(kind: bytes, text: str = "") -> None:
        with contextlib.suppress(OSError):  # the parent is gone, as the line's end will say
            news.sendall(kind + b" " * bool(text) + text.encode() + _END)

    def connected(loop: asyncio.AbstractEventLoop, names: str) -> None:
        say(_READY, names)
        line.setblocking(False)
        loop.add_reader(line, receive, loop)

    def receive(loop: asyncio.AbstractEventLoop) -> None:
        if not is_room_for(line.fileno()):  # a connection would be lost on its way: it waits
            loop.remove_reader(line)
            loop.call_later(PAUSE, loop.add_reader, line, receive, loop)
            return
        with contextlib.suppress(BlockingIOError):
            message, handles, _, _ = socket.recv_fds(line, 1, 1)
            if message == _REPLACED:
                server.state.replaced = True
            if not message:  # the parent has no more connections for us, or is gone
                loop.remove_reader(line)
                server.stop()
            for handle in handles:
                taken: Any = socket.socket(fileno=handle)
                taken.setblocking(False)
                server.take(loop, taken)

    try:
        server = make_server(settings)
        server.signals = (signal.SIGTERM,)
        # Connections may be on their way here: the parent sends the last before it ends the line.
        server.on_signal = lambda: say(LEAVING)
        run_server(server, [], connected, tolerant=tolerant)
    except FlatfoldError as error:
        say(_FAILED, str(error))
