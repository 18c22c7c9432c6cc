"""One server process of several, as its parent sees it.

What it does itself is in `service.worker_process`, which the parent never imports: it serves
nothing, and would be the larger and the slower by all that serving needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from time import monotonic
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError
from service import forking
from service.neighbours import forget_the_dead
from service.news import END, READY, REPLACED
from service.shared import SHARED_FOLDER, forget_worker, shared_folder

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from service.config import Settings

SLOW_START = 60.0  # seconds until a start that takes long is logged, again and again
REAPED = 1.0  # seconds for its exit code to arrive

logger = logging.getLogger(__name__)


class Worker:
    """One server process, seen from the parent.

    Args:
        settings: of the server.
        replaces: it takes the place of another, and has to go on with the models that are good.

    Raises:
        FlatfoldError: the system has no room for another process.
    """

    def __init__(self, settings: Settings, *, replaces: bool = False) -> None:
        self._line, line = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # News come over a socket of their own: when a parent dies with something unread, the
        # socket that it came over ends in an error, and libuv keeps errors to itself.
        self._news, news = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unread = b""
        self._process: BaseProcess = forking.context().Process(
            target=_work,
            args=(settings, line, news),
            kwargs={"tolerant": replaces, "folder": shared_folder()},
        )
        try:
            with forking.without_signals():
                self._process.start()
        # Where what it is forked from cannot fork, that ends, which shows as an end of file.
        except (OSError, EOFError) as error:
            self._line.close()
            self._news.close()
            raise FlatfoldError(f"a worker process could not be started: {error}") from error
        finally:
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
        if kind != READY:
            self.forget()
            raise FlatfoldError(text.decode() or "a worker ended while it started")
        self.ready = True
        return text.decode()

    async def hear(self) -> bytes:
        """Return the next of the worker's news; b"" when it has ended."""
        loop = asyncio.get_running_loop()
        while END not in self._unread:
            more = await loop.sock_recv(self._news, 65_536)
            if not more:
                return b""
            self._unread += more
        said, _, self._unread = self._unread.partition(END)
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
        """Wait for the process's end, so many seconds at most; return its exit code.

        Its news end with it. What multiprocessing watches also ends with the process it was forked
        from, which may be killed alone.
        """
        try:
            async with asyncio.timeout(seconds):
                while await self.hear():
                    pass
        except TimeoutError:
            return None
        self._process.join(REAPED)
        return self._process.exitcode

    def finish(self, *, replaced: bool = False) -> None:
        """Ask it to finish: the line's end comes behind every connection that went over it.

        Args:
            replaced: it may tell probes that the server is ready.
        """
        if replaced:
            with contextlib.suppress(OSError):  # no room, or it is dead
                self._line.send(REPLACED)
        self._line.shutdown(socket.SHUT_WR)

    def forget(self) -> None:
        """Leave it out of what the others add up and wait for: it has ended."""
        if folder := shared_folder():
            forget_worker(folder, self.pid)
            forget_the_dead(folder)

    def kill(self) -> None:
        """End it."""
        self._process.kill()


def _work(
    settings: Settings,
    line: socket.socket,
    news: socket.socket,
    *,
    tolerant: bool,
    folder: Path | None,
) -> None:
    """Be a worker; in the process itself, which alone needs what serving needs."""
    from service.worker_process import work  # noqa: PLC0415 (see above)

    if folder is not None:  # what it was forked from may have begun with another environment
        os.environ[SHARED_FOLDER] = str(folder)
    work(settings, line, news, tolerant=tolerant)
