"""Every error that the service answers with; each class owns its HTTP status and code.

ServiceError
|- BadRequestError 400          |- UnprocessableError 422
|- UnauthorizedError 401        |- OverloadedError 429 (Retry-After)
|- NotFoundError 404            |- ClientClosedError 499 (seldom heard by anybody)
|  `- ModelNotFoundError        |- InternalError 500
|- MethodNotAllowedError 405    |- NotReadyError 503 (Retry-After)
|- RequestTimeoutError 408      `- DeadlineExceededError 504
|- PayloadTooLargeError 413
`- UnsupportedMediaTypeError 415
"""

from __future__ import annotations

from typing import ClassVar

from flatfold.contract.errors import FlatfoldError


class ServiceError(FlatfoldError):
    """A request cannot be answered; the message goes to the client as it is."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    headers: ClassVar[tuple[tuple[bytes, bytes], ...]] = ()


class BadRequestError(ServiceError):
    """The request is malformed."""

    status, code = 400, "bad_request"


class UnauthorizedError(ServiceError):
    """An API key is needed, and none or a wrong one came."""

    status, code = 401, "unauthorized"
    headers = ((b"www-authenticate", b"Bearer"),)


class NotFoundError(ServiceError):
    """There is nothing at this path."""

    status, code = 404, "not_found"


class ModelNotFoundError(NotFoundError):
    """No such model, or no such version of it."""

    code = "model_not_found"


class MethodNotAllowedError(ServiceError):
    """The path exists, but not with this method."""

    status, code = 405, "method_not_allowed"


class RequestTimeoutError(ServiceError):
    """The request did not arrive in time."""

    status, code = 408, "request_timeout"
    headers = ((b"connection", b"close"),)


class PayloadTooLargeError(ServiceError):
    """The body, the picture or the number of files is over its limit."""

    status, code = 413, "too_large"


class UnsupportedMediaTypeError(ServiceError):
    """The body's content type or encoding is not one that is read."""

    status, code = 415, "unsupported_media_type"


class UnprocessableError(ServiceError):
    """Well-formed, but its content cannot be used: no picture, say."""

    status, code = 422, "unprocessable"


class OverloadedError(ServiceError):
    """The queue is full; nothing of the request was kept."""

    status, code = 429, "overloaded"
    headers = ((b"retry-after", b"1"),)


class ClientClosedError(ServiceError):
    """The client went away before its answer, as far as can be seen; for logs and metrics."""

    status, code = 499, "client_closed"


class InternalError(ServiceError):
    """Something that should not happen did; the server goes on."""


class NotReadyError(ServiceError):
    """The server is starting or stopping."""

    status, code = 503, "not_ready"
    headers = ((b"retry-after", b"1"),)


class DeadlineExceededError(ServiceError):
    """The answer would come after the request's deadline."""

    status, code = 504, "deadline_exceeded"
