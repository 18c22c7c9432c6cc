"""The Open Inference Protocol's routes; what each does stands in the file of its noun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from service import examples
from service.auth import check_privileged
from service.errors import BadRequestError
from service.v2 import control, description, documentation
from service.v2.shared_statistics import add_up

if TYPE_CHECKING:
    from service.catalogue import Served
    from service.state import State

router = APIRouter(prefix="/v2", tags=["open inference protocol"], responses=examples.GUARDED)


def _state(request: Request) -> State:
    state: State = request.app.state.flatfold
    return state


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


@router.get("", summary="The server and its protocol extensions", responses=documentation.SERVER)
async def server() -> Response:
    """Return the server's metadata."""
    return _json(description.server())


@router.get(
    "/models/stats", summary="Statistics of all models", responses=documentation.ALL_STATISTICS
)
async def all_statistics(request: Request) -> Response:
    """Return counts and times of every model version."""
    state = _state(request)
    return _statistics(state, state.repository.all())


@router.get("/models/{model}", summary="A model", responses=documentation.METADATA)
@router.get("/models/{model}/versions/{version}", responses=documentation.METADATA)
async def metadata(request: Request, model: str, version: str | None = None) -> Response:
    """Return a model's inputs and outputs; -1 stands for any size."""
    repository = _state(request).repository
    served = repository.get(model, version)
    return _json(description.metadata(served, repository.versions(model)))


@router.get("/models/{model}/ready", responses=documentation.READY)
@router.get("/models/{model}/versions/{version}/ready", responses=documentation.READY)
async def model_ready(request: Request, model: str, version: str | None = None) -> Response:
    """Answer 200 for a model that is served."""
    served = _state(request).repository.get(model, version)
    return _json({"name": served.model.name, "ready": True})


@router.get("/models/{model}/config", responses=documentation.CONFIG)
@router.get("/models/{model}/versions/{version}/config", responses=documentation.CONFIG)
async def config(request: Request, model: str, version: str | None = None) -> Response:
    """Return a model's configuration in Triton's form."""
    return _json(description.config(_state(request).repository.get(model, version)))


@router.get("/models/{model}/stats", responses=documentation.STATISTICS)
@router.get("/models/{model}/versions/{version}/stats", responses=documentation.STATISTICS)
async def statistics(request: Request, model: str, version: str | None = None) -> Response:
    """Return counts and times of a model, of all its versions when none is named."""
    state = _state(request)
    found = state.repository.get(model, version)
    every = [served for served in state.repository.all() if served.model.name == model]
    return _statistics(state, every if version is None else [found])


def _statistics(state: State, models: list[Served]) -> Response:
    """Return the models' totals, those of the other workers included."""
    own = [description.statistics(served) for served in models]
    others = state.statistics.others() if state.statistics is not None else []
    return _json({"model_stats": add_up(own, others)})


@router.post(
    "/models/{model}/infer",
    summary="Infer",
    responses=documentation.INFER,
    openapi_extra=documentation.INFER_BODY,
)
async def infer_route(model: str) -> None:
    """Run a model on tensors, or on picture files; the request may be JSON or binary."""
    del model  # documented here; `service.hot` has the gate answer it


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Infer with one version",
    responses=documentation.INFER,
    openapi_extra=documentation.INFER_BODY,
)
async def infer_version_route(model: str, version: str) -> None:
    """Run one version of a model; without it the highest is run."""
    del model, version  # as above


@router.post(
    "/repository/index",
    summary="Models of the repository",
    responses=documentation.INDEX,
    openapi_extra=documentation.INDEX_BODY,
)
async def index(request: Request) -> Response:
    """Return each model version's state, and why it is so."""
    return _json(control.index(_state(request), await request.body()))


@router.post(
    "/repository/models/{model}/load",
    summary="Load",
    responses=documentation.LOAD,
    openapi_extra=documentation.PRIVILEGED,
)
async def load(request: Request, model: str) -> Response:
    """Load a model's files anew; needs an admin key."""
    state = _state(request)
    check_privileged(state.settings, dict(request.headers.raw))
    await control.load(state, model, await request.body())
    return _json({})


@router.post(
    "/repository/models/{model}/unload",
    summary="Unload",
    responses=documentation.LOAD,
    openapi_extra=documentation.PRIVILEGED,
)
async def unload(request: Request, model: str) -> Response:
    """Stop serving a model; needs an admin key."""
    state = _state(request)
    check_privileged(state.settings, dict(request.headers.raw))
    await control.unload(state, model, await request.body())
    return _json({})


@router.api_route(
    "/{kind}sharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False
)
async def shared_memory(kind: str, rest: str) -> Response:
    """Refuse: clients reach this server over a network."""
    raise BadRequestError(
        f"this server has no {kind} shared memory ({rest}): send tensors in the body"
    )
