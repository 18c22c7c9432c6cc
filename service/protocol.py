"""uvicorn's HTTP protocol with the one limit it lacks: time for a request's head to arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose first bytes or whose head do not come in time (slow loris).

    Idle connections between requests are uvicorn's keep-alive's to close.
    """

    header_timeout: ClassVar[float] = 10.0  # seconds; 0 for no limit

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the clock: a connection has to say something."""
        super().connection_made(transport)
        self._start()

    def on_message_begin(self) -> None:
        """Start the clock for the head that began."""
        super().on_message_begin()
        if self._timer is None:
            self._start()

    def on_headers_complete(self) -> None:
        """Stop the clock: the head is whole."""
        self._stop()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        if self.header_timeout:
            self._timer = self.loop.call_later(self.header_timeout, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """Answer 408 and close; nothing of the request has reached the application."""
        body = b'{"error":"the request\'s head did not arrive in time","code":"request_timeout"}'
        self.transport.write(
            b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)
        )
        self.transport.close()
