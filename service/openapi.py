"""What the OpenAPI document says of every call: how a key is sent, and how a deadline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "one of FLATFOLD_API_KEYS or FLATFOLD_ADMIN_KEYS",
    },
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "the same key, for clients that cannot send the other header",
    },
}
KEY: list[dict[str, Any]] = [{name: []} for name in SCHEMES]  # either of them
DEADLINE: dict[str, Any] = {
    "name": "X-Request-Timeout",
    "in": "header",
    "required": False,
    "description": "seconds that the answer may take, where the server's own limit is longer",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}


def add_keys_and_deadlines(app: FastAPI) -> None:
    """Have the app's document say what the gate reads: FastAPI itself knows nothing of that."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:  # made once
            document = make()
            document.setdefault("components", {})["securitySchemes"] = SCHEMES
            for methods in document["paths"].values():
                for operation in methods.values():
                    _complete(operation)
        return make()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _complete(operation: dict[str, Any]) -> None:
    """Add key and deadline to a call, as its answers tell: 401 and 504."""
    if "401" in operation["responses"]:
        # Whether a key is needed is the server's to say: most calls go without where none is set.
        operation.setdefault("security", [{}, *KEY])
    if "504" in operation["responses"]:
        operation.setdefault("parameters", []).append(DEADLINE)
