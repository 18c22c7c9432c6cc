"""What the OpenAPI document says of the protocol's calls: bodies, answers and errors."""

from __future__ import annotations

from typing import Any

from service import examples

Responses = dict[int | str, dict[str, Any]]

_REQUEST = {
    "inputs": [{"name": "images", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [0] * 12}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
}
_ANSWER = {
    "model_name": "cifar10",
    "model_version": "1",
    "outputs": [
        {
            "name": "probabilities",
            "datatype": "BYTES",
            "shape": [1, 3],
            "data": ["0.970000:3:cat", "0.020000:5:dog", "0.004000:4:deer"],
        }
    ],
}
_OBJECT = {"type": "object"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": (
            "JSON, or with the header Inference-Header-Content-Length JSON of that length and "
            "then the binary tensors; 0 makes the body the only input, as raw bytes. A model with "
            "a card also takes picture files: datatype BYTES, shape [N]. May be gzip or deflate."
        ),
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "parameters": _OBJECT,
                        "inputs": {"type": "array", "minItems": 1, "items": _OBJECT},
                        "outputs": {"type": "array", "items": _OBJECT},
                    },
                },
                "example": _REQUEST,
            },
            "application/octet-stream": _BINARY,
        },
    }
}
INDEX_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
                "example": {"ready": True},
            }
        },
    }
}
UNAUTHORIZED = examples.error("unauthorized", "this call needs an API key")
NOT_FOUND: Responses = {
    401: UNAUTHORIZED,
    404: examples.error("model_not_found", "no model 'dogs'; served: cifar10"),
}
INFER: Responses = {
    200: {
        "description": "the outputs; as binary behind the JSON where that was asked for",
        "content": {
            "application/json": {"schema": _OBJECT, "example": _ANSWER},
            "application/octet-stream": _BINARY,
        },
    },
    400: examples.error(
        "bad_request", "input 'images': expected UINT8 [-1, 32, 32, 3], got FP32 [1, 3]"
    ),
    **NOT_FOUND,
    408: examples.error("request_timeout", "the body did not arrive in time"),
    413: examples.error("too_large", "the body decompresses to more than 20000000 bytes"),
    415: examples.error("unsupported_media_type", "Content-Encoding is 'br'; expected gzip"),
    422: examples.error("unprocessable", "picture 0: not a picture that can be read"),
    429: examples.error("overloaded", "the queue is full: try again in a second"),
    500: examples.error("internal", "the model failed to run"),
    503: examples.error("not_ready", "the server is stopping"),
    504: examples.error("deadline_exceeded", "no answer within the deadline"),
}
INDEX: Responses = {400: examples.error("bad_request", "the body is not valid JSON")}
LOAD: Responses = {
    **INDEX,
    401: examples.error("unauthorized", "load and unload are off"),
    404: examples.error("model_not_found", "no file for a model 'dogs' in the repository"),
    422: examples.error("unprocessable", "dogs.onnx is not a model that onnxruntime reads"),
}
