"""Health and metrics: what probes and scrapers ask every few seconds, answered as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import NotReadyError
from service.http import Response, json_response
from service.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from service.http import Request
    from service.state import State


async def live(state: State, request: Request) -> Response:
    """Answer 200 as long as the process does anything at all."""
    del state, request
    return json_response({"live": True})


async def ready(state: State, request: Request) -> Response:
    """Answer 200 once the models are loaded.

    Raises:
        NotReadyError: no model is loaded, or SIGTERM came.
    """
    del request
    if state.draining and not state.replaced:
        raise NotReadyError("the server is stopping")
    if not state.ready or not state.repository.ready:
        raise NotReadyError("no model is loaded")
    return json_response({"ready": True})


async def metrics(state: State, request: Request) -> Response:
    """Return the metrics of the whole server, all workers together."""
    del request
    text = state.metrics.exposition(state.repository, state.in_flight)
    return Response(200, text, CONTENT_TYPE)
