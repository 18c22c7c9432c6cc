"""The hot routes as FastAPI documents them.

None of these functions runs: `service.hot` finds the same paths, and the gate answers them before
FastAPI is asked.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from service import examples

router = APIRouter()


@router.get(
    "/v2/health/live",
    tags=["health"],
    summary="Is the process alive?",
    responses={200: examples.answer({"live": True})},
)
async def live() -> None:
    """Answer 200 as long as the process does anything at all."""


@router.get(
    "/v2/health/ready",
    tags=["health"],
    summary="May traffic come?",
    responses={
        200: examples.answer({"ready": True}),
        503: examples.error("not_ready", "the server is stopping"),
    },
)
async def ready() -> None:
    """Answer 200 once the models are loaded, and 503 from the moment of SIGTERM on."""


@router.get(
    "/metrics",
    tags=["operations"],
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics() -> None:
    """Return the metrics of the whole server, all workers together."""


@router.post(
    "/v1/classify",
    tags=["classify"],
    summary="Classify pictures",
    openapi_extra={"requestBody": examples.PICTURES},
    responses=examples.CLASSIFY,
)
async def classify_route(
    top_k: Annotated[
        Any, Query(description="labels per picture, 5 by default", examples=[3])
    ] = None,
    model: Annotated[Any, Query(description="which model, where there are several")] = None,
) -> None:
    """Classify one or many pictures: JPEG, PNG, WebP, GIF (first frame), BMP or TIFF.

    A picture that cannot be read fails alone, with its own error, beside its neighbours. The
    request `X-Request-Timeout: SECONDS` gives a deadline.
    """
    del top_k, model  # read from the query string by `classify`
