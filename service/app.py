"""The application: state, routes and the gate in front of them, put together."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response as StarletteResponse

import flatfold
from flatfold.contract.card import Card
from flatfold.contract.errors import UsageError
from service import models_api
from service.auth import Guard
from service.batcher import Batcher
from service.config import keys
from service.cores import usable_cores
from service.decode import Decoder
from service.errors import MethodNotAllowedError, NotFoundError, ServiceError
from service.gate import Gate
from service.hot import find_hot
from service.http import as_service_error, error_response
from service.metrics import Metrics
from service.repository import Repository
from service.routes import router as own_routes
from service.runtime import RuntimeOptions
from service.state import State
from service.tracing import make_tracing
from service.v2.router import router as v2_routes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from service.config import Settings
    from service.model import Model

logger = logging.getLogger(__name__)

DESCRIPTION = (
    "Classify pictures with ONNX models. `POST /v1/classify` takes pictures; "
    "`/v2` is the Open Inference Protocol and takes tensors."
)


def build_app(settings: Settings) -> tuple[ASGIApp, State]:
    """Return the ASGI application and its state; `state.repository.open()` loads the models.

    Raises:
        UsageError: the labels file cannot be read.
    """
    state = build_state(settings)

    app = FastAPI(
        title="flatfold",
        version=flatfold.__version__,
        description=DESCRIPTION,
        redirect_slashes=False,  # every answer but 200 is an error that a client can read
    )
    guard = Guard(keys(settings.api_keys), keys(settings.admin_keys))
    app.state.flatfold = state
    app.include_router(own_routes)
    app.include_router(models_api.router)
    app.include_router(v2_routes)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _error)
    app.add_exception_handler(ServiceError, _error)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=keys(settings.cors),
            allow_methods=["*"],
            allow_headers=["*"],
        )
    # Cross-origin answers need the framework's middleware, so that nothing is hot with it.
    hot = (lambda _method, _path: None) if settings.cors else find_hot
    return Gate(app, state, hot, guard), state


def build_state(settings: Settings) -> State:
    """Return the service's parts, nothing of them running yet."""
    cores = usable_cores()
    threads = settings.threads or max(1, cores // settings.workers)
    metrics = Metrics()

    def make_batcher(model: Model) -> Batcher:
        name = model.inputs[0].name
        return Batcher(
            lambda rows: model.run({name: rows}),
            max_batch=settings.max_batch if model.batchable else 1,
            max_queue=settings.max_queue,
            on_batch=lambda rows, seconds, wait: metrics.batch(model.name, rows, seconds, wait),
            name=model.name,
        )

    repository = Repository(
        [Path(path) for path in settings.models] or [default_model()],
        make_batcher,
        runtime=RuntimeOptions(
            provider=settings.provider,
            intra_op_threads=threads,
            half_precision=settings.precision == "fp16",
        ),
        card=_card_from_flags(settings),
        default=settings.default_model or None,
        warm_batches=(1, settings.max_batch),
    )
    decoders = ThreadPoolExecutor(cores, thread_name_prefix="decode")
    decoder = Decoder(decoders, settings.max_pixels)
    return State(settings, repository, metrics, decoder, tracing=make_tracing())


def default_model() -> Path:
    """Return the model that ships inside the package."""
    return Path(str(resources.files("flatfold") / "models" / "cifar10.onnx"))


def _card_from_flags(settings: Settings) -> Card | None:
    if not settings.labels:
        return None
    try:
        labels = tuple(Path(settings.labels).read_text().split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the labels {settings.labels}: {error}") from error
    labels = tuple(label.strip() for label in labels if label.strip())
    if not labels:
        raise UsageError(f"{settings.labels} has no labels; expected one a line")
    side = settings.image_size
    return Card(name="model", labels=labels, height=side, width=side)


def _http_error(request: Request, error: Exception) -> StarletteResponse:
    """Give the framework's own errors the one shape."""
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for nothing else)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("allow", "")
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
