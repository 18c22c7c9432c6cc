"""The model repository extension: index, load, unload."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

from flatfold.contract.errors import FlatfoldError
from service.errors import BadRequestError, ServiceError, UnprocessableError
from service.shown import shown

if TYPE_CHECKING:
    from service.orders import Orders
    from service.repository import Repository
    from service.state import State


def index(state: State, body: bytes) -> list[dict[str, Any]]:
    """Return the repository's models; the body may ask for those that are ready alone.

    Raises:
        BadRequestError: a body that is neither empty nor such a question.
    """
    only_ready = _body(body).get("ready", False)
    if not isinstance(only_ready, bool):
        raise BadRequestError(f"'ready' must be true or false, got {shown(only_ready)}")
    entries = state.repository.index()
    return [asdict(entry) for entry in entries if entry.state == "READY" or not only_ready]


async def load(state: State, name: str, body: bytes) -> None:
    """Load a model's files anew.

    Raises:
        BadRequestError: the body gives a configuration or files of its own.
        ModelNotFoundError: the repository has no file for it.
        UnprocessableError: the file cannot be served; what was served still is.
    """
    unsupported = sorted(_parameters(body))
    if unsupported:
        raise BadRequestError(
            f"load takes no parameters, got {shown(unsupported)}; "
            "put the model into the server's folder, then load it by name"
        )
    try:
        await _models(state).load(name)
    except ServiceError:
        raise
    except FlatfoldError as error:
        raise UnprocessableError(str(error)) from error


async def unload(state: State, name: str, body: bytes) -> None:
    """Stop serving a model; its requests in flight are answered.

    Raises:
        BadRequestError: the body is malformed.
        ModelNotFoundError: it is not served.
    """
    _parameters(body)  # unload_dependents has nothing to act on: there are no ensembles
    await _models(state).unload(name)


def _models(state: State) -> Orders | Repository:
    """Return what a change goes to: with several workers all of them, never just this one."""
    return state.repository if state.orders is None else state.orders


def _body(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"the body is not valid JSON: {error}") from error
    if not isinstance(message, dict):
        raise BadRequestError(f"the body must be a JSON object, got {shown(message)}")
    return message


def _parameters(body: bytes) -> dict[str, Any]:
    parameters = _body(body).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequestError(f"'parameters' must be an object, got {shown(parameters)}")
    return parameters
