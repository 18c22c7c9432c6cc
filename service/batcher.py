"""Greedy batching: an idle runtime takes what is there; what comes while it runs goes next.

There is no polling and no waiting for a batch to fill. The runtime's thread takes its next batch by
itself, so that it need not wait for an event loop that is busy decoding and answering. Where loop
and thread share one core, a batch that takes less time than the way to the thread and back is run
by the loop itself. The batcher knows rows and a function that maps a batch of rows to arrays; it
knows nothing of HTTP or models.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import (
    DeadlineExceededError,
    NotReadyError,
    OverloadedError,
    PayloadTooLargeError,
)
from service.executions import Execution
from service.together import Arrays, Outcomes, run_together

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class _Entry:
    """One request in the queue: its rows, its future, and when it stops mattering."""

    __slots__ = ("answer", "arrived", "deadline", "rows", "timer")

    def __init__(
        self, rows: NDArray[Any], answer: asyncio.Future[Execution], deadline: float | None
    ) -> None:
        self.rows = rows
        self.answer = answer
        self.deadline = deadline
        self.arrived = monotonic()
        self.timer: asyncio.TimerHandle | None = None


class Batcher:
    """A queue in front of one runtime; used from one event loop.

    Every request ends with its rows' results, an error, or its deadline, also when the runtime
    throws. Cancelled and expired requests are dropped before they cost anything.

    Args:
        run: maps rows (n, ...) to arrays of n rows each, by name; called in a thread of its own,
            one call at a time.
        max_batch: most rows in one call; a larger request is split.
        max_queue: most rows waiting, those that are running not counted. An idle queue takes a
            request of one batch more, of which the first runs at once.
        on_batch: told of each call: rows, seconds in it, and the longest wait before it in seconds.
        name: for the thread's name.

    Attributes:
        inline: seconds; batches that are expected to take no longer run in the event loop.
    """

    def __init__(
        self,
        run: Callable[[NDArray[Any]], Arrays],
        *,
        max_batch: int = 16,
        max_queue: int = 256,
        on_batch: Callable[[int, float, float], None] | None = None,
        name: str = "model",
    ) -> None:
        self._run = run
        self.max_batch = max_batch
        self.max_queue = max_queue
        self.on_batch = on_batch
        self.inline = 0.0
        self._row_seconds = math.inf  # of the last batch: nothing is known of the first
        self._queue: deque[_Entry] = deque()
        self.queued = 0  # rows waiting
        self.running = 0  # rows in the runtime
        # Guards the queue, its count and `_busy`: the event loop adds, the runtime's thread takes.
        self._lock = Lock()
        self._busy = False  # somebody will look at the queue again before resting
        self._here: asyncio.Handle | None = None  # the event loop will
        self._end: Future[None] | None = None  # of the thread; set when the batcher is shut
        self._new_thread = partial(ThreadPoolExecutor, 1, thread_name_prefix=f"infer-{name}")
        self._thread = self._new_thread()

    async def submit(self, rows: NDArray[Any], *, deadline: float | None = None) -> Execution:
        """Return the arrays for `rows`, each with len(rows) rows in the same order, and their cost.

        Args:
            rows: (n, ...), n at least 1, of the runtime's row shape and dtype; more than max_batch
                are run in parts.
            deadline: `time.monotonic()` after which nobody wants the answer; None for never.

        Raises:
            PayloadTooLargeError: more rows than the queue could ever hold.
            OverloadedError: the queue is full.
            DeadlineExceededError: the deadline passed, perhaps before this was called: then nothing
                is run.
            NotReadyError: the batcher is shut, or has no thread.
            InternalError: the runtime threw, or gave another number of rows.
        """
        count = len(rows)
        if self._end is not None:
            raise NotReadyError("the model is being unloaded; try again")
        if deadline is not None and deadline <= monotonic():
            raise DeadlineExceededError("the deadline passed before the request was read")
        # More would keep everybody else out until they have all run.
        if count > self.max_queue + self.max_batch:
            raise PayloadTooLargeError(
                f"{count} rows in one request; the model takes {self.max_queue + self.max_batch}, "
                f"{self.max_queue} in its queue (--max-queue) and {self.max_batch} at once: send "
                "them in several requests"
            )
        if self._is_full_for(count):
            self._drop_the_dead()
        if self._is_full_for(count):
            raise OverloadedError(
                f"{self.queued} pictures are waiting and {count} more came; the queue holds "
                f"{self.max_queue} (--max-queue): try again in a second"
            )
        if count > self.max_batch:
            return await self._submit_parts(rows, deadline)
        return await self._enqueue(rows, deadline)

    async def _submit_parts(self, rows: NDArray[Any], deadline: float | None) -> Execution:
        """Run more rows than fit one batch: each part has its place in the queue."""
        starts = range(0, len(rows), self.max_batch)
        parts = [self._enqueue(rows[i : i + self.max_batch], deadline) for i in starts]
        try:
            ran = await asyncio.gather(*parts)
        finally:
            for part in parts:  # when one fails, nobody wants the others
                part.cancel()
        return Execution(
            {name: np.concatenate([r.arrays[name] for r in ran]) for name in ran[0].arrays},
            sum(r.seconds for r in ran),  # one after another: no two parts fit one batch
        )

    def _is_full_for(self, count: int) -> bool:
        return self.queued + count > self.max_queue and bool(self.queued or self.running)

    def _drop_the_dead(self) -> None:
        """Take requests out of the queue that are cancelled or expired: they hold no place."""
        with self._lock:
            self._queue = deque(entry for entry in self._queue if not entry.answer.done())
            self.queued = sum(len(entry.rows) for entry in self._queue)

    def _enqueue(self, rows: NDArray[Any], deadline: float | None) -> asyncio.Future[Execution]:
        loop = asyncio.get_running_loop()
        entry = _Entry(rows, loop.create_future(), deadline)
        if deadline is not None:
            delay = max(0.0, deadline - entry.arrived)
            entry.timer = loop.call_later(delay, self._expire, entry)
        with self._lock:
            self._queue.append(entry)
            self.queued += len(rows)
            idle, self._busy = not self._busy, True
        if idle and self._is_short():
            self._here = loop.call_soon(self._run_here, loop)  # with all that has come by then
        elif idle:
            self._start(loop)
        return entry.answer

    def _is_short(self) -> bool:
        """Whether what waits is expected to take no longer than may be spent in the event loop."""
        rows = min(self.queued, self.max_batch)
        return bool(self.inline) and rows * self._row_seconds <= self.inline

    def _run_here(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run what is there in the event loop, which then reads what came before it goes on."""
        self._here = None
        if self.queued and not self._is_short():
            self._start(loop)
        elif batch := self._take():
            wait = monotonic() - batch[0].arrived
            outcomes, seconds = self._run_timed(batch)
            self._here = loop.call_soon(self._run_here, loop)
            self._finish(batch, outcomes, seconds, wait)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the thread look at the queue; it begins with the first requests.

        Where the system has no thread left, all that wait fail, and whoever comes next tries again.
        """
        batch = self._take()
        try:
            self._thread.submit(self._work, loop, batch)
        except RuntimeError as error:
            self._thread = self._new_thread()  # the old one keeps the batch, and would run it later
            while batch:
                for entry in batch:
                    entry.answer.set_exception(
                        NotReadyError(f"no thread to run the model in ({error}); try again")
                    )
                batch = self._take()

    def _expire(self, entry: _Entry) -> None:
        """Answer a request whose deadline passed, whether it waits or runs."""
        if not entry.answer.done():
            waited = monotonic() - entry.arrived
            entry.answer.set_exception(
                DeadlineExceededError(f"no answer within the deadline: waited {waited:.3f} s")
            )

    def _work(self, loop: asyncio.AbstractEventLoop, batch: list[_Entry]) -> None:
        """Run `batch`, then the next ones as long as anything waits; in the runtime's thread."""
        while batch:
            wait = monotonic() - batch[0].arrived
            outcomes, seconds = self._run_timed(batch)
            loop.call_soon_threadsafe(self._finish, batch, outcomes, seconds, wait)
            batch = self._take()

    def _run_timed(self, batch: list[_Entry]) -> Outcomes:
        """Run `batch`, and remember what a row of it took."""
        outcomes, seconds = run_together(self._run, [entry.rows for entry in batch])
        self._row_seconds = seconds / sum(len(entry.rows) for entry in batch)
        return outcomes, seconds

    def _take(self) -> list[_Entry]:
        """Remove and return the next entries, max_batch rows at most; the dead are dropped."""
        batch: list[_Entry] = []
        rows = 0
        with self._lock:
            while self._queue:
                entry = self._queue[0]
                if not entry.answer.done() and rows + len(entry.rows) > self.max_batch:
                    break
                self._queue.popleft()
                self.queued -= len(entry.rows)
                if not entry.answer.done():
                    batch.append(entry)
                    rows += len(entry.rows)
            self.running = rows
            self._busy = bool(batch)
        return batch

    def _finish(
        self, batch: list[_Entry], outcomes: list[Arrays | Exception], seconds: float, wait: float
    ) -> None:
        """Hand out the results of a batch."""
        for entry, outcome in zip(batch, outcomes, strict=True):
            if entry.timer is not None:
                entry.timer.cancel()
            if entry.answer.done():
                continue
            if entry.deadline is not None and entry.deadline <= monotonic():
                self._expire(entry)  # its timer could not, while the event loop ran the batch
            elif isinstance(outcome, Exception):
                entry.answer.set_exception(outcome)
            else:
                entry.answer.set_result(Execution(outcome, seconds))
        if self.on_batch is not None:
            self.on_batch(sum(len(entry.rows) for entry in batch), seconds, wait)

    async def drain(self) -> None:
        """Take nothing more, wait until everything queued is answered, and end the thread."""
        if self._here is not None:
            self._here.cancel()
            self._here = None
            self._start(asyncio.get_running_loop())
        if self._end is None:
            self._end = self._thread.submit(lambda: None)  # comes behind all that is queued
            self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(self._end))
