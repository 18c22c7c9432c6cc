"""What the OpenAPI document says of bodies and errors, with examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def answer(example: dict[str, Any] | list[Any], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Return the documentation of a small answer, by its example; `optional` keys may lack."""
    if isinstance(example, list):
        schema: dict[str, Any] = {"type": "array"}
    else:
        schema = {"type": "object", "required": [key for key in example if key not in optional]}
    return {"content": {"application/json": {"schema": schema, "example": example}}}


Responses = dict[int | str, dict[str, Any]]

# Of every call: so no framework's own shape of an error is promised to anybody.
ANY_ERROR: Responses = {
    "default": error("not_ready", "the server is stopping") | {"description": "any other error"}
}
GUARDED: Responses = {
    401: error("unauthorized", "an API key is needed: send Authorization: Bearer KEY")
}
NOT_FOUND: Responses = {404: error("model_not_found", "no model 'dogs'; served: cifar10")}

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

CLASSIFY: Responses = {
    200: {
        "description": "the labels of each picture, best first, in the order of the pictures",
        "content": {"application/json": {"schema": _ANSWER, "example": _ANSWER_EXAMPLE}},
    },
    400: error("bad_request", "top_k must be a whole number of at least 1, got '0'"),
    **GUARDED,
    **NOT_FOUND,
    408: error("request_timeout", "the body did not arrive within 10.0 s (--header-timeout)"),
    413: error("too_large", "the picture is 8000x8000 = 64.0 MP; the limit is 50.0 MP"),
    415: error("unsupported_media_type", "content type 'text/html' is not read here"),
    422: error("unprocessable", "not a picture that can be read: 5 bytes, starting b'hello'"),
    429: error("overloaded", "256 pictures are waiting and 1 more came"),
    500: error("internal", "the model failed to run"),
    503: error("not_ready", "the server is stopping"),
    504: error("deadline_exceeded", "no answer within the deadline: waited 30.000 s"),
}

_TENSORS = {
    "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]}],
}
_MODEL = {"name": "cifar10", "versions": ["1"]}
_SHOWN = {"labels": ["cat", "dog"], "height": 32, "width": 32}
_CARD = (
    _SHOWN
    | {"precision": "fp32", "architecture": "flatnet-96x3", "temperature": 1.0, "schema": 1}
    | {"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26], "accuracy": {"test_top1": 0.95}}
    | {"provenance": {"seed": 0}, "proof": {"top1_agreement": 1.0}, "speed": {}}
)
MODELS: Responses = {200: answer({"models": [_MODEL | _SHOWN]})}
CARD: Responses = {
    200: answer(
        _MODEL | _CARD | {"version": "1", "provider": "cpu"} | _TENSORS,
        optional=_CARD,  # a plain ONNX file has none
    ),
    **NOT_FOUND,
}
METRICS: Responses = {
    200: {
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": 'flatfold_requests_total{route="/v1/classify",status="200"} 7.0\n',
            }
        }
    },
    **GUARDED,
}

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PIXEL = (  # a PNG of one grey pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
_OPTIONS = {"top_k": {"type": "integer", "minimum": 1}, "model": {"type": "string"}}
PICTURES: dict[str, Any] = {
    "required": True,
    "description": (
        "one picture as the body, several as a form, or base64 inside JSON; a form's fields and "
        "JSON's keys `top_k` and `model` count where the query does not say them"
    ),
    "content": {
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    **_OPTIONS,
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
                    **_OPTIONS,
                },
            },
            "example": {"images": [{"data": _PIXEL, "filename": "grey.png"}], "top_k": 3},
        },
    },
}
