"""Accepting connections and dealing them out to other processes, so that none is dropped."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from service.listening import HANDSHAKE, refuse_new

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

PAUSE = 0.01  # seconds until takers that had no room are asked again
ACCEPT_PAUSE = 1.0  # seconds until accepting is tried again, as in asyncio's own servers

logger = logging.getLogger(__name__)


class Taker(Protocol):
    """Who serves connections."""

    def give(self, connection: socket.socket) -> bool:
        """Take a copy of `connection`; return False where that is not possible now."""


class Dealer:
    """Hands each connection to the next taker; used from one event loop.

    Where none has room, one connection stays in hand and the others in the kernel's queue. Nothing
    is awaited between accepting and giving: a task cancelled there would take its connection along.

    Args:
        listener: listens, does not block; closed by `finish`.
        takers: asked in turn; may change between two connections.
    """

    def __init__(self, listener: socket.socket, takers: Sequence[Taker]) -> None:
        self._listener = listener
        self._takers = takers
        self._next = 0
        self._held: socket.socket | None = None

    def start(self) -> None:
        """Deal out what comes from now on."""
        asyncio.get_running_loop().add_reader(self._listener, self._deal)

    async def finish(self, ends: float) -> None:
        """Deal out what has come so far, then close the listener.

        Args:
            ends: `time.monotonic()` after which connections that nobody took are closed.
        """
        refuse_new(self._listener)
        await asyncio.sleep(min(HANDSHAKE, max(0.0, ends - monotonic())))
        while not self._deal() and monotonic() < ends:  # noqa: ASYNC110 (sockets have no event)
            await asyncio.sleep(PAUSE)
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        if self._held is not None:
            self._held.close()

    def _deal(self) -> bool:
        """Deal out all that has come; where some is left, go on in a moment and return False."""
        pause = PAUSE
        try:
            while True:
                self._held = self._held or self._listener.accept()[0]
                if not self._give(self._held):
                    break
                self._held.close()
                self._held = None
        except BlockingIOError:
            return True
        except OSError as error:  # too many open files: whoever waits may have luck later
            logger.warning("a connection could not be accepted: %s", error)
            pause = ACCEPT_PAUSE
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listener)
        loop.call_later(pause, self._resume)
        return False

    def _give(self, connection: socket.socket) -> bool:
        for _ in self._takers:
            self._next = (self._next + 1) % len(self._takers)
            if self._takers[self._next].give(connection):
                return True
        return False

    def _resume(self) -> None:
        if self._listener.fileno() >= 0 and self._deal():
            self.start()
