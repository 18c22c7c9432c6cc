"""The documented interface: FastAPI with all routes, and errors in the one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response as StarletteResponse

import flatfold
from service import examples, models_api
from service.errors import MethodNotAllowedError, NotFoundError, ServiceError
from service.http import as_service_error, error_response
from service.openapi import add_keys_and_deadlines
from service.routes import router as own_routes
from service.v2.router import router as v2_routes

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

    from service.state import State

DESCRIPTION = (
    "Classify pictures with ONNX models. `POST /v1/classify` takes pictures; "
    "`/v2` is the Open Inference Protocol and takes tensors."
)


def make_framework(state: State) -> FastAPI:
    """Return the FastAPI application for `state`."""
    # The documentation's scripts come from here: a closed network has no other place for them.
    app = FastAPIOffline(
        title="flatfold",
        version=flatfold.__version__,
        description=DESCRIPTION,
        redirect_slashes=False,  # every answer but 200 is an error that a client can read
        responses=examples.ANY_ERROR,
    )
    add_keys_and_deadlines(app)
    app.state.flatfold = state
    app.include_router(own_routes)
    app.include_router(models_api.router)
    app.include_router(v2_routes)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _error)
    app.add_exception_handler(ServiceError, _error)
    return app


def _http_error(request: Request, error: Exception) -> StarletteResponse:
    """Give the framework's own errors the one shape."""
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for nothing else)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        ours: ServiceError = MethodNotAllowedError(
            f"{request.method} is not for {path}" + (f"; use {allowed}" if allowed else "")
        )
    elif error.status_code == 404:
        ours = NotFoundError(f"nothing at {path}; GET /docs lists what there is")
    else:
        ours = ServiceError(str(error.detail))
    return _plain(ours, error.headers)


def _error(_: Request, error: Exception) -> StarletteResponse:
    return _plain(as_service_error(error))


def _plain(error: ServiceError, headers: object = None) -> StarletteResponse:
    response = error_response(error)
    plain = StarletteResponse(response.body, response.status, media_type="application/json")
    for name, value in response.headers:
        plain.headers[name.decode()] = value.decode()
    if isinstance(headers, dict):
        plain.headers.update(headers)
    return plain
