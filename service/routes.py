"""The hot routes as FastAPI documents them, and answers them where they are not hot."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from service import examples, health
from service.classify import classify
from service.http import Request as PlainRequest

if TYPE_CHECKING:
    from service.hot import Handler
    from service.state import State

router = APIRouter()


@router.get(
    "/v2/health/live",
    tags=["health"],
    summary="Is the process alive?",
    responses={200: examples.answer({"live": True})},
)
async def live(request: Request) -> Response:
    """Answer 200 as long as the process does anything at all."""
    return await _answer(health.live, request)


@router.get(
    "/v2/health/ready",
    tags=["health"],
    summary="May traffic come?",
    responses={
        200: examples.answer({"ready": True}),
        503: examples.error("not_ready", "the server is stopping"),
    },
)
async def ready(request: Request) -> Response:
    """Answer 200 once the models are loaded, and 503 from the moment of SIGTERM on."""
    return await _answer(health.ready, request)


@router.get("/metrics", tags=["operations"], summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return the metrics of the whole server, all workers together."""
    return await _answer(health.metrics, request)


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
    return await _answer(classify, request)


async def _answer(handler: Handler, request: Request) -> Response:
    """Answer as the hot route does."""
    state: State = request.app.state.flatfold
    deadline = monotonic() + state.settings.timeout if state.settings.timeout else None
    plain = PlainRequest(
        dict(request.headers.raw), request.url.query.encode(), await request.body(), deadline
    )
    answer = await handler(state, plain)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    kind = answer.content_type.decode() if answer.content_type else None
    return Response(answer.body, answer.status, headers, kind)
