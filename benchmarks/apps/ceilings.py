"""HTTP alone: read the body, answer a constant. What a framework costs before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002 (FastAPI resolves the route's annotations when it runs)
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

ANSWER = {"predictions": [{"label": f"label{i}", "probability": 0.2} for i in range(5)]}
_BODY = JSONResponse(ANSWER).body
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application without a framework."""
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


async def _route(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse(ANSWER)


starlette = Starlette(routes=[Route("/v1/classify", _route, methods=["POST"])])
fastapi = FastAPI()


@fastapi.post("/v1/classify")
async def fastapi_route(request: Request) -> dict[str, Any]:
    """FastAPI's way to the same answer."""
    await request.body()
    return ANSWER
