"""The routes that are answered before any framework: found by hand, handled as plain data.

FastAPI has routes for the same paths, which document them and never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from service import health
from service.classify import classify
from service.http import Request, Response
from service.v2.infer import infer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from service.state import State

    Handler = Callable[[State, Request], Awaitable[Response]]

_MODELS = "/v2/models/"
_INFER = "/infer"

_FIXED: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/classify"): classify,
    ("GET", "/v2/health/live"): health.live,
    ("GET", "/v2/health/ready"): health.ready,
    # Some load balancers probe with HEAD.
    ("HEAD", "/v2/health/live"): health.live,
    ("HEAD", "/v2/health/ready"): health.ready,
    ("GET", "/metrics"): health.metrics,
}


def find_hot(method: str, path: str) -> tuple[str, Handler] | None:
    """Return the route's template and its handler, or None for what FastAPI answers."""
    fixed = _FIXED.get((method, path))
    if fixed is not None:
        return path, fixed
    if method == "POST" and path.startswith(_MODELS) and path.endswith(_INFER):
        match path[len(_MODELS) : -len(_INFER)].split("/"):
            case [name]:
                return "/v2/models/{model}/infer", _infer_handler(name, None)
            case [name, "versions", version]:
                return "/v2/models/{model}/versions/{version}/infer", _infer_handler(name, version)
    return None


def _infer_handler(name: str, version: str | None) -> Handler:
    async def handle(state: State, request: Request) -> Response:
        wanted = version
        if wanted is None and request.query:
            wanted = dict(parse_qsl(request.query.decode("latin-1"))).get("version")
        status, headers, body = await infer(
            state, name, wanted, request.headers, request.body, deadline=request.deadline
        )
        return Response(status, body, content_type=None, headers=tuple(headers))

    return handle
