"""The outermost ASGI layer: every request passes here once, and leaves with an answer.

It gives each request an id and a deadline, checks keys and limits, answers the hot routes before
any framework, turns every error into the one shape, counts, and logs. Only `--cors` lies around it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from service.errors import (
    BadRequestError,
    ClientClosedError,
    NotReadyError,
    PayloadTooLargeError,
    RequestTimeoutError,
    ServiceError,
)
from service.http import Request, as_service_error, error_response, send_response
from service.shown import shown
from service.tracing import trace_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.auth import Guard
    from service.http import Response
    from service.state import State

    Handler = Callable[[State, Request], Awaitable[Response]]
    FindHot = Callable[[str, str], tuple[str, Handler] | None]

TIMEOUT_HEADER = b"x-request-timeout"
ID_HEADER = b"x-request-id"
UNKNOWN = "unknown"  # the route of what has none
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")

logger = logging.getLogger("service.access")


class Gate:
    """Wraps the FastAPI application.

    Args:
        app: answers what has no hot route.
        state: the service.
        find_hot: (method, path) -> the template and handler of a route that is answered here.
        guard: knows which headers carry a valid key.
    """

    def __init__(self, app: ASGIApp, state: State, find_hot: FindHot, guard: Guard) -> None:
        self._app = app
        self._state = state
        self._find_hot = find_hot
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._state)
        self._begin()
        try:
            await self._answer(exchange, receive)
        except asyncio.CancelledError:
            if exchange.client_gone:
                exchange.status = ClientClosedError.status
                await exchange.fail(
                    ClientClosedError("the connection's end came while the request waited")
                )
            elif self._state.draining:
                error = NotReadyError("the server stopped before the answer was ready; try again")
                await exchange.fail(error)
            else:
                raise
        except Exception as error:
            if not isinstance(error, ServiceError):
                logger.exception("request %s failed", _printable(exchange.id))
            await exchange.fail(as_service_error(error))
        finally:
            self._end()
            exchange.finish()

    def _begin(self) -> None:
        """Count a request in; the first one is work, and other processes may want to know."""
        self._state.in_flight += 1
        if self._state.in_flight == 1 and self._state.neighbours is not None:
            self._state.neighbours.working(True)

    def _end(self) -> None:
        self._state.in_flight -= 1
        if self._state.in_flight == 0 and self._state.neighbours is not None:
            self._state.neighbours.working(False)

    async def _answer(self, exchange: _Exchange, receive: Receive) -> None:
        state, path = self._state, exchange.scope["path"]
        hot = self._find_hot(exchange.scope["method"], path)
        if hot is not None:
            exchange.route = hot[0]  # before anything refuses it: refusals are counted by it, too
        if path not in OPEN_PATHS:
            self._guard.check(exchange.headers, path)
            if state.in_flight > state.settings.max_connections:
                raise NotReadyError(
                    f"{state.in_flight - 1} requests are being handled; the limit is "
                    f"{state.settings.max_connections} (--max-connections)"
                )
        body = await self._read_body(exchange, receive)
        if hot is None:
            await self._app(exchange.scope, _replay(body, receive), exchange.send)
            return
        _, handler = hot
        request = Request(
            exchange.headers, exchange.scope["query_string"], body, self._deadline(exchange)
        )
        # Somebody who waits in a queue may leave it; a request that is alone cannot be dropped
        # before it runs, and is spared the cost of watching.
        watcher = exchange.watch(receive) if state.in_flight > 1 else None
        try:
            response = await handler(state, request)
        finally:
            if watcher is not None:
                watcher.cancel()
        await send_response(exchange.send, response)

    async def _read_body(self, exchange: _Exchange, receive: Receive) -> bytes:
        """Return the whole body.

        Raises:
            PayloadTooLargeError: more bytes than the limit, announced or sent.
            RequestTimeoutError: it came too slowly.
        """
        limit = self._state.settings.max_body
        announced = exchange.headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(int(announced), limit)
        message = await self._receive(receive)  # at once, whatever there is: see PatientProtocol
        if not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > limit:
                raise _too_large(len(body), limit)
            return body
        seconds = self._state.settings.header_timeout or None
        parts = [message.get("body", b"")]
        size = len(parts[0])
        try:
            async with asyncio.timeout(seconds):
                while message.get("more_body"):
                    message = await self._receive(receive)
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        raise _too_large(size, limit)
        except TimeoutError as error:
            raise RequestTimeoutError(
                f"the body did not arrive within {seconds} s (--header-timeout): {size} bytes came"
            ) from error
        return b"".join(parts)

    async def _receive(self, receive: Receive) -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientClosedError("the client left before its request was whole")
        return message

    def _deadline(self, exchange: _Exchange) -> float | None:
        """Return the sooner of the server's and the client's time-out, as monotonic time."""
        seconds = self._state.settings.timeout or math.inf
        wanted = exchange.headers.get(TIMEOUT_HEADER)
        if wanted is not None:
            try:
                asked = float(wanted)
            except ValueError:
                asked = math.nan
            if not asked > 0:
                raise BadRequestError(
                    f"X-Request-Timeout must be a number of seconds above 0, "
                    f"got {shown(wanted.decode('latin-1'))}"
                )
            seconds = min(seconds, asked)
        return None if seconds == math.inf else exchange.started_at + seconds


def _too_large(size: int, limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(
        f"the body has {size} bytes or more; the limit is {limit} (--max-body)"
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once and then waits for the client to leave."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class _Exchange:
    """One request on its way: what is known of it, and what its answer's head said."""

    def __init__(self, scope: Scope, send: Send, state: State) -> None:
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = self.headers.get(ID_HEADER, b"")[:128] or os.urandom(8).hex().encode()
        self.route = ""
        self.status = 0
        self.started = False
        self.started_at = monotonic()
        self.client_gone = False
        self._send = send
        self._state = state

    async def send(self, message: Message) -> None:
        """Pass a message on; the answer's head gets the request's id."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            more = [(ID_HEADER, self.id)]
            if self._state.draining:
                more.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await self._send(message)

    async def fail(self, error: ServiceError) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self.started:
            await send_response(self.send, error_response(error))

    def watch(self, receive: Receive) -> asyncio.Task[None]:
        """Cancel the current task when the client leaves, or seems to: see `PatientProtocol`."""
        task = asyncio.current_task()

        async def wait() -> None:
            await receive()  # the body is whole, so that nothing else can come
            if task is not None:
                self.client_gone = True
                task.cancel()

        return asyncio.create_task(wait())

    def finish(self) -> None:
        """Count, trace and log the request."""
        seconds = monotonic() - self.started_at
        route = self.route or _route(self.scope)
        self._state.metrics.request(route, self.status, seconds)
        if self._state.tracing is not None:
            attributes = {
                "http.request.method": self.scope["method"],
                "http.response.status_code": self.status,
                "url.path": _printable(self.scope["raw_path"]),
                "url.scheme": self.scope["scheme"],
            }
            if route != UNKNOWN:
                attributes["http.route"] = route
            self._state.tracing.record(self.headers, attributes, time_ns() - int(seconds * 1e9))
        if self._is_logged():
            fields: dict[str, Any] = {
                "request_id": _printable(self.id),
                "method": self.scope["method"],
                "path": _printable(self.scope["raw_path"]),
                "status": self.status,
                "milliseconds": round(seconds * 1000, 2),
            }
            if trace := trace_id(self.headers):
                fields["trace_id"] = trace
            line = "%(method)s %(path)s %(status)s %(milliseconds)s ms"
            logger.info(line, fields, extra={"fields": fields})

    def _is_logged(self) -> bool:
        choice = self._state.settings.access_log
        return choice == "all" or (choice == "errors" and self.status >= 400)


def _printable(sent: bytes) -> str:
    """Return what a client sent as it may stand in a log: it cannot end the line or colour it.

    The path as it was sent, then, with %0A for a line's end; other bytes as escapes.
    """
    return sent.decode("ascii", "backslashreplace")


def _route(scope: Scope) -> str:
    """Return the path's template: the path itself could be anything, and metrics must not grow."""
    route = scope.get("route")
    return str(getattr(route, "path", UNKNOWN))
