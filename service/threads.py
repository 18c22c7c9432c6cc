"""Work on a request's bytes that blocks everybody else: little of it at once, much in a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# Above this many bytes a hop to a thread costs less than what the work would block.
INLINE_BYTES = 32 * 1024


async def by_size(size: int, work: Callable[[], T]) -> T:
    """Return what `work` returns for a request of `size` bytes; what it raises is passed on."""
    return work() if size < INLINE_BYTES else await asyncio.to_thread(work)
