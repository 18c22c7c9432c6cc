"""Health, metrics and the documentation of the hot route, as FastAPI routes."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service import examples
from service.classify import classify
from service.errors import NotReadyError
from service.http import Request as PlainRequest
from service.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from service.state import State

router = APIRouter()


def state_of(request: Request) -> State:
    """Return the service's state."""
    state: State = request.app.state.flatfold
    return state


@router.get("/v2/health/live", tags=["health"], summary="Is the process alive?")
async def live() -> dict[str, bool]:
    """Answer 200 as long as the process does anything at all."""
    return {"live": True}


@router.get(
    "/v2/health/ready",
    tags=["health"],
    summary="May traffic come?",
    responses={503: examples.error("not_ready", "the server is stopping")},
)
async def ready(request: Request) -> dict[str, bool]:
    """Answer 200 once the models are loaded, and 503 from the moment of SIGTERM on."""
    state = state_of(request)
    if state.draining:
        raise NotReadyError("the server is stopping")
    if not state.ready or not state.repository.ready:
        raise NotReadyError("no model is loaded")
    return {"ready": True}


@router.get("/metrics", tags=["operations"], summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the metrics of the whole server, all workers together."""
    state = state_of(request)
    text = state.metrics.exposition(state.repository, state.in_flight)
    return Response(text, media_type=CONTENT_TYPE.decode())


@router.post(
    "/v1/classify",
    tags=["classify"],
    summary="Classify pictures",
    openapi_extra={"requestBody": examples.PICTURES},
    responses=examples.CLASSIFY,
)
async def classify_route(
    request: Request,
    top_k: Annotated[
        Any, Query(description="labels per picture, 5 by default", examples=[3])
    ] = None,
    model: Annotated[Any, Query(description="which model, where there are several")] = None,
) -> Response:
    """Classify one or many pictures: JPEG, PNG, WebP, GIF (first frame), BMP or TIFF.

    A picture that cannot be read fails alone, with its own error, beside its neighbours. The
    request `X-Request-Timeout: SECONDS` gives a deadline.
    """
    del top_k, model  # documented here, read from the query string by `classify`
    state = state_of(request)
    deadline = monotonic() + state.settings.timeout if state.settings.timeout else None
    plain = PlainRequest(
        dict(request.headers.raw), request.url.query.encode(), await request.body(), deadline
    )
    answer = await classify(state, plain)
    return Response(answer.body, answer.status, dict(_texts(answer.headers)), "application/json")


def _texts(headers: tuple[tuple[bytes, bytes], ...]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in headers]
