"""The `parameters` of a request, an input or an output."""

from __future__ import annotations

from typing import Any

from service.errors import BadRequestError
from service.shown import shown

_NONE: dict[str, Any] = {}


def parameters_of(message: dict[str, Any], owner: str, name: str = "") -> dict[str, Any]:
    """Return an object's parameters, none when it has none.

    Args:
        message: the object.
        owner: what it is, for the error.
        name: which of several it is, likewise.

    Raises:
        BadRequestError: they are no object, or ask for shared memory.
    """
    parameters = message.get("parameters")
    if parameters is None:
        return _NONE
    if isinstance(parameters, dict) and "shared_memory_region" not in parameters:
        return parameters
    if name:
        owner = f"{owner} {shown(name)}"
    if not isinstance(parameters, dict):
        raise BadRequestError(f"'parameters' of {owner} must be an object, got {shown(parameters)}")
    raise BadRequestError(
        f"{owner} names a shared memory region; this server has no shared memory: "
        "send the data in the body"
    )


def flag(parameters: dict[str, Any], key: str, *, default: bool) -> bool:
    """Return a parameter that is true or false.

    Raises:
        BadRequestError: it is neither.
    """
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise BadRequestError(f"{key!r} must be true or false, got {shown(value)}")
    return value


def timeout(parameters: dict[str, Any]) -> float | None:
    """Return the reserved parameter of that name in seconds; None without one.

    Raises:
        BadRequestError: it is no whole number of microseconds.
    """
    microseconds = parameters.get("timeout")
    if microseconds is None or microseconds == 0:
        return None
    if not is_count(microseconds):
        raise BadRequestError(
            f"'timeout' must be a whole number of microseconds, got {shown(microseconds)}"
        )
    return float(microseconds) / 1e6


def is_count(value: Any) -> bool:
    """Whether `value` is a whole number of at least 0."""
    return type(value) is int and value >= 0
