"""uvicorn's HTTP protocol with what it lacks: limits on a request's head, and no upgrades."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import BadRequestError, RequestTimeoutError, ServiceError
from service.http import error_response

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

logger = logging.getLogger(__name__)

MAX_HEAD = 65_536  # bytes; of a head without end, what came with its first byte is not counted
MAX_PIPELINED = 100  # requests that wait behind one that is answered; each takes kilobytes


class TooManyAtOnceError(ServiceError):
    """More requests wait on one connection than are kept; those that came before are answered."""

    status, code = 429, "too_many_at_once"


class HeadTooLargeError(ServiceError):
    """The request's head is over its limit; `size` is what came of it, in bytes."""

    status, code = 431, "head_too_large"

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the request's head has {size} bytes or more; "
            f"the limit is {MAX_HEAD}: send fewer or shorter header lines"
        )


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose first bytes or whose head do not come in time, or never end.

    Idle connections between requests are uvicorn's keep-alive's to close.
    """

    header_timeout: ClassVar[float] = 10.0  # seconds; 0 for no limit
    on_refused: ClassVar[Callable[[int], None]] = staticmethod(lambda _: None)  # gets the status

    _timer: asyncio.TimerHandle | None = None
    _looking: asyncio.TimerHandle | None = None
    _head: int | None = None  # bytes of the head, or of a body's trailers, that is not whole yet
    _read = 0  # bytes that came last
    _refused = False
    _running: RequestResponseCycle | None = None  # others wait behind it where they are pipelined

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Start the clock: a connection has to say something."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what is not HTTP, and a head that goes on for too long."""
        self._unset_keepalive_if_required()
        if self._refused:
            return
        self._read = len(data)
        if self._head is not None:
            self._head += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            own = error.__context__  # what a method here raised, the parser wraps
            if not isinstance(own, ServiceError):
                own = BadRequestError(
                    f"expected a request in HTTP/1.1, got something else: {error}"
                )
            self._refuse(own)
        else:
            if self._head is not None and self._head > MAX_HEAD:
                self._refuse(HeadTooLargeError(self._head))
            elif self._timer is None and self.timeout_keep_alive_task is None:
                self._rest()

    def on_message_begin(self) -> None:
        """Start the clock for the head that began."""
        super().on_message_begin()
        self._head = 0
        if self._timer is None:
            self._start()

    def on_headers_complete(self) -> None:
        """Stop the clock: the head is whole."""
        if self._head or self._read > MAX_HEAD:  # it came in several reads, or in a long one
            self._check_head()
        self._head = None
        if self.parser.should_upgrade():  # it comes again, see _parse
            return
        self._stop()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooManyAtOnceError(f"more than {MAX_PIPELINED} requests wait on one connection")
        super().on_headers_complete()
        if not self.pipeline:
            self._running = self.cycle
        if not self.timeout_keep_alive:
            # The answer says so, then: a client that does not know loses its next request.
            self.cycle.keep_alive = False
        # The application's first receive() is answered at once, with as much of the body as came
        # along with the head: so it knows, at no cost, whether there is anything to wait for.
        self.cycle.message_event.set()

    def _check_head(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD:
            raise HeadTooLargeError(size)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._head = None
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Count again: what follows is a part of the body, or else trailers, which have no end."""
        self._head = 0

    def on_message_complete(self) -> None:
        """Let the application know that the body is whole."""
        self._head = None
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the request that waits behind, if there is one."""
        if self.pipeline:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes whatever is owed
        """Answer the request that came whole before the client's end, and only then close.

        A client may close its sending half and listen on. One that has left looks the same: whoever
        waits in `receive` is woken, and may drop what nobody may be waiting for.
        """
        if self._running is None or self.cycle.response_complete or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        self._running.message_event.set()
        return True

    def pause_writing(self) -> None:
        """Start to look whether the client takes the answer that it asked for."""
        super().pause_writing()
        self._look(self.transport.get_write_buffer_size() + 1)

    def resume_writing(self) -> None:
        """Stop to look."""
        super().resume_writing()
        self._stop_looking()

    def _look(self, before: int) -> None:
        """Cut off a client that took nothing of its answer since the last look."""
        left = self.transport.get_write_buffer_size()
        if left >= before:
            logger.info("a client did not take its answer: %d bytes were left", left)
            self.transport.abort()
        elif self.header_timeout:
            self._looking = self.loop.call_later(self.header_timeout, self._look, left)

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock, and let the request that runs know; uvicorn tells the last one alone."""
        self._stop()
        self._stop_looking()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _parse(self, data: bytes) -> None:
        """Feed the parser, and keep it from taking `Upgrade` for the end of HTTP.

        The parser leaves a request that offers an upgrade without its body. A server may pass over
        the offer (RFC 9110, 7.8), and then the body is a body: the head is parsed again, by a new
        parser and without the offer, and what came behind it after it.

        Raises:
            HttpParserError: this is not a request.
        """
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.feed_data(head)
                rest = rest[upgrade.args[0] :]
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            raise httptools.HttpParserError("this server is no proxy: CONNECT is not for it")
        lines = [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        first = b"%b %b HTTP/%b" % (method, self.url, version.encode())
        return b"\r\n".join([first, *lines, b"", b""])

    def _rest(self) -> None:
        """Keep the clock for idle connections running when what came began no request.

        Each read stops it, be it a stray line's end or the rest of a body that was refused unread.
        """
        if self.header_timeout and self.cycle is not None and self.cycle.response_complete:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _start(self) -> None:
        if self.header_timeout:
            self._timer = self.loop.call_later(self.header_timeout, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._refuse(
            RequestTimeoutError(
                f"the request's head did not arrive within {self.header_timeout} s "
                "(--header-timeout)"
            )
        )

    def _refuse(self, error: ServiceError) -> None:
        """Read no more, answer with `error` in the application's place, and close.

        Where whole requests still wait for their answers, those are sent, the last of them says
        that the connection ends, and the error is not told: it would pass for one of theirs.
        """
        logger.info("a request was refused unread: %d, %s", error.status, error)
        self._refused = True
        self._stop()
        cycle = self.cycle
        unanswered = cycle is not None and not cycle.response_complete
        if unanswered and (self.pipeline or not cycle.more_body):
            cycle.keep_alive = False
            return
        if not unanswered:  # of a request that has begun, the application tells
            type(self).on_refused(error.status)
        response = error_response(error)
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            % (
                response.status,
                HTTPStatus(response.status).phrase.encode(),
                len(response.body),
                response.body,
            )
        )
        self.transport.close()
