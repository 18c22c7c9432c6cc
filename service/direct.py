"""Running a model that takes no shared batches: one request at a time, bounded, with deadlines."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from service.errors import DeadlineExceededError, InternalError, NotReadyError, OverloadedError
from service.executions import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from service.model import Model


class DirectRunner:
    """A queue of whole requests in front of one model; used from one event loop.

    Args:
        model: what runs them.
        max_queue: most requests waiting, the one that is running not counted.
        on_batch: told of each run: 1, seconds in it, and the wait before it in seconds.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_queue: int,
        on_batch: Callable[[int, float, float], None] | None = None,
    ) -> None:
        self._model = model
        self._max_queue = max_queue
        self._on_batch = on_batch
        self._lock = Lock()  # guards the count: the event loop adds, the thread takes
        self._unfinished = 0
        self._new_thread = partial(ThreadPoolExecutor, 1, thread_name_prefix=f"direct-{model.name}")
        self._thread = self._new_thread()

    @property
    def queued(self) -> int:
        """Requests waiting: all that are not finished but one, which the thread has."""
        return max(0, self._unfinished - 1)

    async def run(
        self,
        feeds: Mapping[str, NDArray[Any]],
        *,
        outputs: Sequence[str] | None = None,
        deadline: float | None,
    ) -> Execution:
        """Return the outputs for `feeds`; a request that is cancelled or late never starts.

        Args:
            feeds: input name -> array.
            outputs: names wanted; all when None.
            deadline: `time.monotonic()` after which nobody wants the answer; None for never.

        Raises:
            OverloadedError: the queue is full.
            DeadlineExceededError: the deadline passed, perhaps before this was called: then nothing
                is run.
            NotReadyError: there is no thread to run it in.
            InternalError: the runtime threw.
        """
        arrived = monotonic()
        if deadline is not None and deadline <= arrived:
            raise DeadlineExceededError("the deadline passed before the request was read")
        if self._unfinished > self._max_queue:
            raise OverloadedError(
                f"{self.queued} requests are waiting, the most that the queue holds "
                "(--max-queue): try again in a second"
            )
        loop = asyncio.get_running_loop()
        request = [feeds]  # a cancelled one stays in the thread's queue, but not what came with it
        try:
            future = self._thread.submit(self._run, loop, request, outputs, arrived)
        except RuntimeError as error:  # at the first request: the system has no thread left
            self._thread = self._new_thread()  # the old one keeps this request, to be run later
            raise NotReadyError(f"no thread to run the model in ({error}); try again") from error
        with self._lock:
            self._unfinished += 1
        future.add_done_callback(partial(self._finished, request))
        try:
            async with asyncio.timeout(None if deadline is None else deadline - arrived):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            waited = monotonic() - arrived
            raise DeadlineExceededError(
                f"no answer within the deadline: waited {waited:.3f} s"
            ) from error

    def _run(
        self,
        loop: asyncio.AbstractEventLoop,
        request: list[Mapping[str, NDArray[Any]]],
        outputs: Sequence[str] | None,
        arrived: float,
    ) -> Execution:
        """Run one request; in the thread."""
        started = monotonic()
        try:
            arrays = self._model.run(request[0], outputs)
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise InternalError(f"the model failed to run: {error}") from error
        finally:
            seconds = monotonic() - started
            if self._on_batch is not None:
                loop.call_soon_threadsafe(self._on_batch, 1, seconds, started - arrived)
        return Execution(arrays, seconds)

    def _finished(self, request: list[Mapping[str, NDArray[Any]]], _: Future[Execution]) -> None:
        """Count out a request that ran, or that was cancelled before it did."""
        request.clear()
        with self._lock:
            self._unfinished -= 1
