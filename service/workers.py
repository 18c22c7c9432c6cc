"""`--workers N`: one parent that accepts, and N servers that are handed connections in turn.

Processes that accept from one queue split the connections by luck, which shows as a tail of slow
answers; here each gets every Nth. The parent puts another worker in the place of one that dies or
is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
from multiprocessing import util
from time import monotonic
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError
from service.dealing import Dealer
from service.listening import announce, bind
from service.news import LEAVING
from service.shared import SHARED_FOLDER, why_no_folder
from service.worker import Worker

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from service.config import Settings

logger = logging.getLogger(__name__)

RETRY = 1.0  # seconds until a start that failed is tried again
GROUP = 0.1  # seconds for a signal to reach all processes of a group
MARGIN = 1.0  # seconds beyond grace until a worker that has not ended is killed


def serve_workers(settings: Settings) -> int:
    """Serve with `settings.workers` processes until a signal; return the exit code.

    Raises:
        FlatfoldError: the port is taken, a worker cannot start, or they have no place to share.
    """
    listener = bind(settings.host, settings.port)
    with _make_folder() as shared, _kept(shared):
        os.environ[SHARED_FOLDER] = shared
        return asyncio.run(Parent(settings, listener).run())


def _make_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a new folder for the workers to share.

    Raises:
        FlatfoldError: there is no place for one.
    """
    reason = why_no_folder()
    if not reason:
        try:
            return tempfile.TemporaryDirectory(prefix="flatfold-")
        except OSError as error:
            reason = str(error)
    raise FlatfoldError(
        f"several workers need a writable temporary folder: {reason}; "
        "set TMPDIR, or docker run --tmpfs /tmp"
    )


@contextlib.contextmanager
def _kept(folder: str) -> Iterator[None]:
    """Keep systemd from clearing the folder away after some days: a locked one it leaves alone."""
    import fcntl  # noqa: PLC0415 (there are several processes only where it exists)

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


class Parent:
    """Accepts connections, deals them out, and looks after the workers."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._workers: list[Worker] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until the first signal, then until the workers have finished; return 0.

        Raises:
            FlatfoldError: a worker cannot start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        stop = asyncio.create_task(self._stop.wait())
        try:
            self._workers = [Worker(self._settings) for _ in range(self._settings.workers)]
            start = asyncio.create_task(self._started())
            await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
            if stop.done():  # nothing has been promised to anybody yet
                start.cancel()
                await asyncio.gather(start, return_exceptions=True)
                return 0
            announce(self._listener, start.result())
            dealer = Dealer(self._listener, self._workers)
            dealer.start()
            keeping = [asyncio.create_task(self._keep(i)) for i in range(len(self._workers))]
            await stop
            for task in keeping:
                task.cancel()
            await asyncio.wait(keeping)
            await self._finish(dealer)
        finally:
            _kill_all()
        return 0

    async def _started(self) -> str:
        """Return the served models' names once all workers are ready."""
        names = await asyncio.gather(*(worker.started() for worker in self._workers))
        return names[0]

    def _signalled(self, number: int) -> None:
        if self._stop.is_set():
            _kill_all()
            for folder in (os.environ[SHARED_FOLDER], util.get_temp_dir()):
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(128 + number)
        self._stop.set()

    async def _keep(self, index: int) -> None:
        """Put another worker in the place of one that dies or is told to end."""
        while True:
            old = self._workers[index]
            leaves = await old.hear() == LEAVING
            if leaves:
                await asyncio.sleep(GROUP)  # the signal may be the whole group's, and ours
                logger.info("worker %d was told to end; starting another", index)
            else:
                code = await old.ended()
                old.forget()
                logger.error("worker %d ended with code %s; starting another", index, code)
            self._workers[index] = await self._another(index)
            if leaves:
                task = asyncio.create_task(self._see_off(old))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

    async def _another(self, index: int) -> Worker:
        """Return a new worker that is ready, after as many attempts as that takes."""
        while True:
            try:
                worker = Worker(self._settings, replaces=True)
                await worker.started()
            except (FlatfoldError, OSError) as error:
                logger.error("worker %d does not start again: %s", index, error)  # noqa: TRY400 - expected: one line
                await asyncio.sleep(RETRY)
            else:
                return worker

    async def _see_off(self, worker: Worker) -> None:
        """Let a worker finish whose place another has taken."""
        worker.finish(replaced=True)
        await worker.ended(self._settings.grace + MARGIN)
        worker.kill()
        await worker.ended(MARGIN)
        worker.forget()

    async def _finish(self, dealer: Dealer) -> None:
        """Deal out the last connections, and let the workers finish."""
        ends = monotonic() + self._settings.grace
        # Where none is left, nobody will have room for what still waits.
        await dealer.finish(ends if any(worker.alive for worker in self._workers) else 0.0)
        for worker in self._workers:
            worker.finish()
        left = max(0.0, ends - monotonic()) + MARGIN
        await asyncio.gather(*self._leaving, *(worker.ended(left) for worker in self._workers))


def _kill_all() -> None:
    """End every worker: those that serve, that start, and that leave."""
    processes = multiprocessing.active_children()
    for process in processes:
        process.kill()
    for process in processes:  # so that they write no more into the folder that is about to go
        process.join(MARGIN)
