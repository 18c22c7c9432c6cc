"""`--workers N`: one parent that accepts, and N servers that are handed connections in turn.

Processes that accept from one queue split the connections by luck, which shows as a tail of slow
answers; here each gets every Nth. The parent starts a worker anew when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
from time import monotonic
from typing import TYPE_CHECKING, Any

from flatfold.contract.errors import FlatfoldError
from service import logs, metrics
from service.dealing import Dealer
from service.listening import announce, bind
from service.server import make_server, run_server

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from service.config import Settings

logger = logging.getLogger(__name__)

_READY, _FAILED = b"ready", b"failed"
_MESSAGE = 65_536  # bytes, at most, of what a worker says
START_SECONDS = 60.0


def serve_workers(settings: Settings) -> int:
    """Serve with `settings.workers` processes until a signal; return the exit code.

    Raises:
        FlatfoldError: the port is taken, or a worker cannot start.
    """
    listener = bind(settings.host, settings.port)
    listener.listen(2048)
    try:
        folder = tempfile.TemporaryDirectory(prefix="flatfold-")
    except OSError as error:
        raise FlatfoldError(
            f"several workers need a writable temporary folder: {error}; "
            "set TMPDIR, or docker run --tmpfs /tmp"
        ) from error
    with folder as shared:
        os.environ[metrics.SHARED_FOLDER] = shared
        return asyncio.run(Parent(settings, listener).run())


class Parent:
    """Accepts connections, deals them out, and looks after the workers."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[_Worker] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until the first signal, then until the workers have finished; return 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            self._workers = [_Worker(self._settings) for _ in range(self._settings.workers)]
            names = [await worker.started() for worker in self._workers]
            announce(self._listener, names[0])
            dealer = Dealer(self._listener, self._workers)
            dealer.start()
            watching = [asyncio.create_task(self._watch(i)) for i in range(len(self._workers))]
            await self._stop.wait()
            for task in watching:
                task.cancel()
            await self._finish(dealer)
        finally:
            for worker in self._workers:
                worker.kill()
        return 0

    def _signalled(self, number: int) -> None:
        if self._stop.is_set():
            for worker in self._workers:
                worker.kill()
            os._exit(128 + number)
        self._stop.set()

    async def _watch(self, index: int) -> None:
        """Replace a worker that dies."""
        while True:
            code = await self._workers[index].ended()
            metrics.forget_worker(self._workers[index].pid)
            logger.error("worker %d ended with code %s; starting another", index, code)
            self._workers[index] = _Worker(self._settings)
            try:
                await self._workers[index].started()
            except FlatfoldError:
                logger.exception("worker %d does not start again", index)
                await asyncio.sleep(1)

    async def _finish(self, dealer: Dealer) -> None:
        """Deal out the last connections, and let the workers finish."""
        ends = monotonic() + self._settings.grace
        await dealer.finish(ends)
        for worker in self._workers:
            worker.finish()
        left = max(0.0, ends - monotonic())
        await asyncio.gather(*(worker.ended(left + 1) for worker in self._workers))


class _Worker:
    """One server process, seen from the parent."""

    def __init__(self, settings: Settings) -> None:
        self._line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # News come over a socket of their own: when a parent dies with something unread, the
        # socket that it came over ends in an error, and libuv keeps errors to itself.
        self._news, news = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess = context.Process(target=work, args=(settings, line, news))
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

    async def started(self) -> str:
        """Return the served models' names once the worker is ready.

        Raises:
            FlatfoldError: it could not start; the message is the worker's.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(START_SECONDS):
            said = await loop.sock_recv(self._news, _MESSAGE)
        kind, _, text = said.partition(b" ")
        if kind != _READY:
            raise FlatfoldError(text.decode() or "a worker ended while it started")
        self.ready = True
        return text.decode()

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
        await asyncio.to_thread(self._process.join, seconds)
        self.ready = False
        return self._process.exitcode

    def finish(self) -> None:
        """Ask it to finish: the line's end comes behind every connection that went over it."""
        self._line.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it."""
        if self._process.is_alive():
            self._process.kill()


def work(settings: Settings, line: socket.socket, news: socket.socket) -> None:
    """Be a worker: serve what comes over `line`, and say over `news` how it goes."""
    logs.configure(settings.log_level, settings.log_format)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl+C is the parent's to handle
    try:
        server = make_server(settings)
    except FlatfoldError as error:
        news.sendall(_FAILED + b" " + str(error).encode())
        return

    def connected(loop: asyncio.AbstractEventLoop, names: str) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, as the line's end will say
            news.sendall(_READY + b" " + names.encode())
        line.setblocking(False)
        loop.add_reader(line, receive, loop)

    def receive(loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(BlockingIOError):
            message, handles, _, _ = socket.recv_fds(line, 1, 1)
            if not message:  # the parent has no more connections for us, or is gone
                loop.remove_reader(line)
                signal.raise_signal(signal.SIGTERM)
            for handle in handles:
                taken: Any = socket.socket(fileno=handle)
                taken.setblocking(False)
                server.take(loop, taken)

    try:
        run_server(server, [], connected)
    except FlatfoldError as error:
        news.sendall(_FAILED + b" " + str(error).encode())
