"""Running a model that takes no shared batches: one request at a time, bounded, with deadlines."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING, Any

from service.errors import DeadlineExceededError, OverloadedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.model import Model


class DirectRunner:
    """A queue of whole requests in front of one model; used from one event loop.

    Args:
        model: what runs them.
        max_queue: most requests waiting or running.
    """

    def __init__(self, model: Model, *, max_queue: int) -> None:
        self._model = model
        self._max_queue = max_queue
        self._pending = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"direct-{model.name}")

    async def run(
        self, feeds: Mapping[str, NDArray[Any]], *, deadline: float | None
    ) -> dict[str, NDArray[Any]]:
        """Return all outputs for `feeds`; a request that is cancelled or late never starts.

        Args:
            feeds: input name -> array.
            deadline: `time.monotonic()` after which nobody wants the answer; None for never.

        Raises:
            OverloadedError: the queue is full.
            DeadlineExceededError: the deadline passed.
            Exception: whatever the runtime raises.
        """
        if self._pending >= self._max_queue:
            raise OverloadedError(
                f"{self._pending} requests are waiting, the most that the queue holds "
                "(--max-queue): try again in a second"
            )
        self._pending += 1
        left = None if deadline is None else max(0.0, deadline - monotonic())
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(left):
                return await loop.run_in_executor(self._thread, self._model.run, feeds)
        except TimeoutError as error:
            raise DeadlineExceededError(f"no answer within the deadline of {left:.3f} s") from error
        finally:
            self._pending -= 1
