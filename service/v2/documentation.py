"""What the OpenAPI document says of the protocol's calls: bodies, answers and errors."""

from __future__ import annotations

from typing import Any

from service import examples
from service.examples import Responses, answer
from service.openapi import KEY

# The shipped model takes it as it stands; what is short comes first.
_IMAGES = {"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": [0] * 3072}
_REQUEST = {
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
    "inputs": [_IMAGES],
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
_TENSOR = {"name": "images", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}
_SCORES = {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}
_MODEL = {"name": "cifar10", "platform": "onnxruntime_onnx"}
_DIMS = {"name": "images", "data_type": "TYPE_UINT8", "dims": [32, 32, 3]}
_TOTAL = {"count": 7, "ns": 21_000_000}
_NONE = {"count": 0, "ns": 0}
_BATCH = {"compute_input": _NONE, "compute_infer": _TOTAL, "compute_output": _NONE}
_REQUESTS = {"success": _TOTAL, "fail": _NONE, "queue": _TOTAL}
_STEPS = {"compute_input": _TOTAL, "compute_infer": _TOTAL, "compute_output": _TOTAL}
_VERSION = {"name": "cifar10", "version": "1"}

SERVER: Responses = {
    200: answer({"name": "flatfold", "version": "0.1.0", "extensions": ["classification"]})
}
METADATA: Responses = {
    200: answer(_MODEL | {"versions": ["1"], "inputs": [_TENSOR], "outputs": [_SCORES]}),
    **examples.NOT_FOUND,
}
READY: Responses = {200: answer({"name": "cifar10", "ready": True}), **examples.NOT_FOUND}
CONFIG: Responses = {
    200: answer(
        _MODEL
        | {"backend": "onnxruntime", "version_policy": {"all": {}}, "max_batch_size": 16}
        | {"input": [_DIMS], "output": [_DIMS | {"name": "probabilities", "dims": [10]}]}
    ),
    **examples.NOT_FOUND,
}
ALL_STATISTICS: Responses = {
    200: answer(
        {
            "model_stats": [
                _VERSION
                | {"last_inference": 1_767_225_600_000, "inference_count": 7, "execution_count": 7}
                | {
                    "inference_stats": _REQUESTS | _STEPS,
                    "batch_stats": [{"batch_size": 1} | _BATCH],
                }
            ]
        }
    )
}
STATISTICS: Responses = ALL_STATISTICS | examples.NOT_FOUND
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
    **examples.GUARDED,
    **examples.NOT_FOUND,
    408: examples.error("request_timeout", "the body did not arrive in time"),
    413: examples.error("too_large", "the body decompresses to more than 20000000 bytes"),
    415: examples.error("unsupported_media_type", "Content-Encoding is 'br'; expected gzip"),
    422: examples.error("unprocessable", "picture 0: not a picture that can be read"),
    429: examples.error("overloaded", "the queue is full: try again in a second"),
    500: examples.error("internal", "the model failed to run"),
    503: examples.error("not_ready", "the server is stopping"),
    504: examples.error("deadline_exceeded", "no answer within the deadline"),
}
PRIVILEGED: dict[str, Any] = {"security": KEY}
_BAD_BODY: Responses = {400: examples.error("bad_request", "the body is not valid JSON")}
INDEX: Responses = {200: answer([_VERSION | {"state": "READY", "reason": ""}]), **_BAD_BODY}
LOAD: Responses = {
    200: answer({}),
    **_BAD_BODY,
    401: examples.error("unauthorized", "load and unload are off"),
    404: examples.error("model_not_found", "no file for a model 'dogs' in the repository"),
    422: examples.error("unprocessable", "dogs.onnx is not a model that onnxruntime reads"),
}
