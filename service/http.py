"""A request and a response as plain data, for the routes that are answered before any framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from flatfold.contract.errors import FlatfoldError
from service.errors import InternalError, ServiceError

if TYPE_CHECKING:
    from starlette.types import Send

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Request:
    """One whole request.

    Attributes:
        headers: lower-case names; of repeated ones the last.
        query: the raw query string.
        body: the whole body.
        deadline: `time.monotonic()` after which nobody waits; None for never.
    """

    headers: dict[bytes, bytes]
    query: bytes
    body: bytes
    deadline: float | None


@dataclass(slots=True)
class Response:
    """One whole response; `content-length` is added when it is sent, and the type unless None."""

    status: int
    body: bytes
    content_type: bytes | None = b"application/json"
    headers: Headers = ()


def json_response(content: Any, status: int = 200, headers: Headers = ()) -> Response:
    """Return `content` as JSON."""
    return Response(status, orjson.dumps(content), headers=headers)


def error_response(error: ServiceError, **more: Any) -> Response:
    """Return the one shape that every error has: its message and its code."""
    return json_response(
        {"error": str(error), "code": error.code, **more}, error.status, error.headers
    )


def as_service_error(error: Exception) -> ServiceError:
    """Return `error` as one that may be sent; what is not meant for people is not told to them."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, FlatfoldError):
        return InternalError(str(error))
    return InternalError("something went wrong here; the server's log has the details")


async def send_response(send: Send, response: Response) -> None:
    """Send a response over ASGI."""
    head = [(b"content-length", b"%d" % len(response.body)), *response.headers]
    if response.content_type is not None:
        head.append((b"content-type", response.content_type))
    await send({"type": "http.response.start", "status": response.status, "headers": head})
    await send({"type": "http.response.body", "body": response.body})
