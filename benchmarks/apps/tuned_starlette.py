"""A hand-tuned Starlette service: everything inline, so that one picture costs no thread hop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.apps.pipeline import Pipeline

if TYPE_CHECKING:
    from starlette.requests import Request

pipeline = Pipeline()


async def classify(request: Request) -> Response:
    """One picture as the raw body."""
    answer = pipeline.classify(await request.body())
    return Response(orjson.dumps(answer), media_type="application/json")


app = Starlette(routes=[Route("/v1/classify", classify, methods=["POST"])])
