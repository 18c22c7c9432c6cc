"""What a server does again and again beside its requests, and what is said when that fails."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

EXPECTED = (OSError, FlatfoldError)  # no open file left, a full disk; all else keeps its traceback


async def repeat(work: Callable[[], Awaitable[None]], seconds: float, what: str) -> None:
    """Do `work` with so many seconds between two times, until cancelled.

    A failure is logged, not the end; of those in a row only the first, and then that it is over.

    Args:
        work: what to do.
        seconds: between two times.
        what: what it does, for the log.
    """
    failing = False
    while True:
        try:
            await work()
        except Exception as error:
            if not failing:
                trace = error if not isinstance(error, EXPECTED) else None
                logger.error("%s failed, trying again: %s", what, error, exc_info=trace)  # noqa: TRY400 - see EXPECTED
            failing = True
        else:
            if failing:
                logger.info("%s works again", what)
            failing = False
        await asyncio.sleep(seconds)
