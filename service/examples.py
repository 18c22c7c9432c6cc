"""What the OpenAPI document says of bodies and errors, with examples."""

from __future__ import annotations

from typing import Any

_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error", "code"],
    "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
}


def error(code: str, message: str) -> dict[str, Any]:
    """Return the documentation of one error answer."""
    example = {"error": message, "code": code}
    return {
        "description": message,
        "content": {"application/json": {"schema": _ERROR_SCHEMA, "example": example}},
    }


ANY_ERROR = {
    **error("unauthorized", "/v1/models needs an API key: send 'Authorization: Bearer KEY'"),
    "description": "any other error: a key is missing, a limit is passed, the server is stopping",
}


def answer(example: dict[str, Any]) -> dict[str, Any]:
    """Return the documentation of a small answer, by its example."""
    schema = {"type": "object", "required": list(example)}
    return {"content": {"application/json": {"schema": schema, "example": example}}}


_PREDICTION = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
    },
}
_RESULT = {
    "type": "object",
    "description": "predictions, or error and code where the picture could not be read",
    "properties": {
        "filename": {"type": ["string", "null"]},
        "predictions": {"type": "array", "items": _PREDICTION},
        "error": {"type": "string"},
        "code": {"type": "string"},
    },
}
_ANSWER = {
    "type": "object",
    "properties": {"model": {"type": "string"}, "results": {"type": "array", "items": _RESULT}},
}
_ANSWER_EXAMPLE = {
    "model": "cifar10",
    "results": [
        {
            "filename": "cat.jpg",
            "predictions": [
                {"label": "cat", "probability": 0.97},
                {"label": "dog", "probability": 0.02},
            ],
        }
    ],
}

CLASSIFY: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the labels of each picture, best first, in the order of the pictures",
        "content": {"application/json": {"schema": _ANSWER, "example": _ANSWER_EXAMPLE}},
    },
    400: error("bad_request", "top_k must be a whole number of at least 1, got '0'"),
    401: error("unauthorized", "an API key is needed: send Authorization: Bearer KEY"),
    404: error("model_not_found", "no model 'dogs' here"),
    408: error("request_timeout", "the body did not arrive within 10.0 s (--header-timeout)"),
    413: error("too_large", "the picture is 8000x8000 = 64.0 MP; the limit is 50.0 MP"),
    415: error("unsupported_media_type", "content type 'text/html' is not read here"),
    422: error("unprocessable", "not a picture that can be read: 5 bytes, starting b'hello'"),
    429: error("overloaded", "256 pictures are waiting and 1 more came"),
    500: error("internal", "the model failed to run"),
    503: error("not_ready", "the server is stopping"),
    504: error("deadline_exceeded", "no answer within the deadline: waited 30.000 s"),
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
PICTURES: dict[str, Any] = {
    "required": True,
    "description": "one picture as the body, several as a form, or base64 inside JSON",
    "content": {
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "files": {"type": "array", "items": {"type": "string", "format": "binary"}}
                },
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {
                    "images": {
                        "type": "array",
                        "items": {
                            "anyOf": [
                                {"type": "string", "format": "byte"},
                                {
                                    "type": "object",
                                    "required": ["data"],
                                    "properties": {
                                        "data": {"type": "string", "format": "byte"},
                                        "filename": {"type": "string"},
                                    },
                                },
                            ]
                        },
                    },
                    "top_k": {"type": "integer", "minimum": 1},
                    "model": {"type": "string"},
                },
            },
            "example": {"images": ["iVBORw0KGgo..."], "top_k": 3},
        },
    },
}
