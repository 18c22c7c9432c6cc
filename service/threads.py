"""Work on a request's bytes that blocks everybody else: little of it at once, much in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from service.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")

# Above this many bytes a hop to a thread costs less than what the work would block.
INLINE_BYTES = 32 * 1024


async def by_size(size: int, work: Callable[[], T]) -> T:
    """Return what `work` returns for a request of `size` bytes; what it raises is passed on.

    Raises:
        NotReadyError: the system has no thread left.
    """
    return work() if size < INLINE_BYTES else await begin(work)


def begin(work: Callable[[], T], threads: Executor | None = None) -> asyncio.Future[T]:
    """Begin `work` in one of `threads`, the event loop's own where None; return its future.

    Raises:
        NotReadyError: the system has no thread left.
    """
    try:
        return asyncio.get_running_loop().run_in_executor(threads, work)
    except RuntimeError as error:
        raise NotReadyError(f"no thread for this request ({error}); try again") from error
