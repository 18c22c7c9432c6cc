"""GET /v1/models and /v1/models/{name}: what is served, and each model's card."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from service import examples

if TYPE_CHECKING:
    from service.repository import Repository, Served
    from service.tensors import TensorSpec

router = APIRouter(prefix="/v1/models", tags=["models"], responses=examples.GUARDED)


@router.get("", summary="The models", responses=examples.MODELS)
async def models(request: Request) -> Response:
    """Return each model's name, versions, labels and picture size."""
    repository: Repository = request.app.state.flatfold.repository
    names = dict.fromkeys(served.model.name for served in repository.all())
    return _json({"models": [_summary(repository, name) for name in names]})


@router.get("/{name}", summary="A model's card", responses=examples.CARD)
async def model(request: Request, name: str, version: str | None = None) -> Response:
    """Return the card: labels, size, preprocessing, measured accuracy, how it came to be.

    A plain ONNX file has no card; then its inputs and outputs stand alone.
    """
    repository: Repository = request.app.state.flatfold.repository
    served = repository.get(name, version)
    card = {} if served.model.card is None else asdict(served.model.card)
    return _json(
        {
            **card,
            "name": served.model.name,
            "version": served.model.version,
            "versions": repository.versions(name),
            "provider": served.model.provider,
            "inputs": _tensors(served.model.inputs),
            "outputs": _tensors(served.model.outputs),
        }
    )


def _summary(repository: Repository, name: str) -> dict[str, Any]:
    served: Served = repository.get(name)
    card = served.model.card
    return {
        "name": name,
        "versions": repository.versions(name),
        "labels": card.labels if card else None,
        "height": card.height if card else None,
        "width": card.width if card else None,
    }


def _tensors(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    return [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in specs]


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
