"""The end of a model that is no longer served: its queue drains once no request holds it."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.batcher import Batcher
    from service.catalogue import Served


class Retirement:
    """Models on their way out; used from one event loop.

    A request takes a `Served` and may decode pictures before it queues its rows: draining at once
    would refuse it. So each model lives until the last request lets go of its `Served`, which
    Python's reference count tells at that very moment.
    """

    def __init__(self) -> None:
        self._waiting: set[Batcher] = set()

    def add(self, served: Served) -> None:
        """Drain `served` when nobody holds it any more."""
        batcher = served.batcher
        self._waiting.add(batcher)
        loop = asyncio.get_running_loop()

        def released() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(drain)

        def drain() -> None:
            task = loop.create_task(batcher.drain())
            task.add_done_callback(lambda _: self._waiting.discard(batcher))

        weakref.finalize(served, released).atexit = False

    async def drain(self) -> None:
        """Drain all that are still waiting, held or not."""
        await asyncio.gather(*(batcher.drain() for batcher in self._waiting))
