"""Which other origins' pages may call, and read every answer (`--cors`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware.cors import CORSMiddleware

from service.errors import BadRequestError
from service.http import error_response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from service.state import State


class Cors(CORSMiddleware):
    """Answers browsers' preflights, which carry no key, before the gate; counts them, as it would.

    Args:
        app: the gate.
        origins: as browsers name them, or `*`.
        state: the service; its metrics are told of each preflight.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], state: State) -> None:
        super().__init__(
            app,
            origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After", "Inference-Header-Content-Length"],
        )
        self._state = state

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight, 400 where the origin or what it asks is not allowed."""
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:  # in the shape of all errors
            error = BadRequestError(f"{bytes(response.body).decode()}: see the server's --cors")
            response.body = error_response(error).body
            response.headers["content-type"] = "application/json"
            response.headers["content-length"] = str(len(response.body))
        self._state.metrics.request("preflight", response.status_code)
        if self._state.draining:
            response.headers["connection"] = "close"
        return response
