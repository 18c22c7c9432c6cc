"""The FastAPI application: documentation, and every route that is not hot.

Importing FastAPI takes longer than loading a model, and its routes are seldom asked. So it is
imported when the first request for it comes, and a server that only classifies never pays.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.state import State


class LazyFramework:
    """An ASGI application that becomes FastAPI's at its first request, in a thread.

    Args:
        state: the service.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._app: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if self._app is None:
            async with self._making:
                if self._app is None:
                    self._app = await asyncio.to_thread(_make, self._state)
        await self._app(scope, receive, send)


def _make(state: State) -> ASGIApp:
    from service.documented import make_framework  # noqa: PLC0415 (the point of this module)

    return make_framework(state)
