"""The three ways to send pictures: a raw body, a multipart form, JSON with base64."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from service.errors import (
    BadRequestError,
    PayloadTooLargeError,
    ServiceError,
    UnsupportedMediaTypeError,
)
from service.forms import read_form, too_many_files
from service.parsing import parse_json
from service.shown import shown
from service.threads import by_size

if TYPE_CHECKING:
    from service.http import Request

RAW_TYPES = (b"image/", b"application/octet-stream", b"application/x-www-form-urlencoded")
# The interpreter stands still while JSON is parsed: 20 MB of small values would take seconds.
MAX_VALUES = 100_000


@dataclass(slots=True)
class Upload:
    """What a request asked to classify.

    Attributes:
        files: the pictures' bytes, in order; an error in place of those that did not arrive well.
        names: their file names; None where none was given.
        fields: other form fields or JSON keys: top_k, model.
    """

    files: list[bytes | ServiceError]
    names: list[str | None]
    fields: dict[str, Any]


async def read_upload(request: Request, max_files: int) -> Upload:
    """Return the pictures of a request.

    A body without a content type, or with the one that `curl --data-binary` sends, is a picture.

    Raises:
        BadRequestError: an empty body, a malformed form or JSON, no file in it.
        PayloadTooLargeError: more files than `max_files`, or JSON of too many values.
        UnsupportedMediaTypeError: another content type, or a compressed body.
    """
    encoding = request.headers.get(b"content-encoding", b"identity")
    if encoding.lower() not in (b"identity", b""):
        raise UnsupportedMediaTypeError(
            f"Content-Encoding is {shown(encoding.decode('latin-1'))}; send the body as it is: "
            "pictures are compressed already"
        )
    kind = request.headers.get(b"content-type", b"").lower()
    if not request.body:
        raise BadRequestError("the body is empty; send a picture, a multipart form or JSON")
    if not kind or kind.startswith(RAW_TYPES):
        return Upload([request.body], [None], {})
    size, media_type = len(request.body), kind.partition(b";")[0].strip()
    if media_type == b"multipart/form-data":  # an eighth of the work that JSON is, at the worst
        upload = await by_size(size // 8, partial(_form, request, max_files))
    elif media_type == b"application/json":
        upload = await by_size(size, partial(_json, request.body, max_files))
    else:
        raise UnsupportedMediaTypeError(
            f"content type {shown(kind.decode('latin-1'))} is not read here; send image/*, "
            "multipart/form-data or application/json"
        )
    if not upload.files:
        raise BadRequestError(
            "no picture in the request; send form files, each with a filename or as image/*, or "
            'JSON {"images": [...]}'
        )
    return upload


def _form(request: Request, max_files: int) -> Upload:
    upload = Upload([], [], {})
    for part in read_form(request.headers[b"content-type"], request.body, max_files):
        if part.filename is None:
            upload.fields[part.name] = part.data.decode("utf-8", "replace")
        else:
            upload.files.append(part.data)
            upload.names.append(part.filename or None)
    return upload


def _json(body: bytes, max_files: int) -> Upload:
    most = MAX_VALUES + 8 * max_files
    values = sum(map(body.count, (b"[", b"{", b",")))
    if values > most:
        raise PayloadTooLargeError(
            f"the JSON has {values} commas and opening brackets; the limit is {most}, and "
            "pictures in base64 need a few each"
        )
    try:
        data = parse_json(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise BadRequestError('expected JSON {"images": [base64 or {"data", "filename"}, ...]}')
    if len(data["images"]) > max_files:
        raise too_many_files(len(data["images"]), max_files)
    upload = Upload([], [], {key: data[key] for key in ("top_k", "model") if key in data})
    for number, entry in enumerate(data["images"]):
        name = entry.get("filename") if isinstance(entry, dict) else None
        text = entry.get("data") if isinstance(entry, dict) else entry
        if not isinstance(text, str) or not isinstance(name, str | None):
            raise BadRequestError(f"images[{number}] must be base64 text or an object with 'data'")
        try:
            upload.files.append(_decoded(text))
        except ValueError as error:  # it fails alone, as a picture that cannot be read does
            upload.files.append(
                BadRequestError(
                    f"images[{number}] is not base64: {error}; expected A-Z, a-z, 0-9, + and /, "
                    "padded with ="
                )
            )
        upload.names.append(name)
    return upload


def _decoded(text: str) -> bytes:
    """Return what base64 stands for; some encoders break its lines, some make it a data: URL.

    Raises:
        ValueError: it is no base64.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    return base64.b64decode("".join(text.split()) if "\n" in text else text, validate=True)
