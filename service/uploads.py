"""The three ways to send pictures: a raw body, a multipart form, JSON with base64."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import BadRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from service.parsing import parse_json
from service.threads import by_size

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from service.http import Request

RAW_TYPES = (b"image/", b"application/octet-stream", b"application/x-www-form-urlencoded")


@dataclass(slots=True)
class Upload:
    """What a request asked to classify.

    Attributes:
        files: the pictures' bytes, in order.
        names: their file names; None where none was given.
        fields: other form fields or JSON keys: top_k, model.
    """

    files: list[bytes]
    names: list[str | None]
    fields: dict[str, Any]


async def read_upload(request: Request, max_files: int) -> Upload:
    """Return the pictures of a request.

    A body without a content type, or with the one that `curl --data-binary` sends, is a picture.

    Raises:
        BadRequestError: an empty body, a malformed form or JSON, no file in it.
        PayloadTooLargeError: more files than `max_files`.
        UnsupportedMediaTypeError: another content type, or a compressed body.
    """
    encoding = request.headers.get(b"content-encoding", b"identity")
    if encoding.lower() not in (b"identity", b""):
        raise UnsupportedMediaTypeError(
            f"Content-Encoding is {encoding.decode('latin-1')!r:.40}; send the body as it is: "
            "pictures are compressed already"
        )
    kind = request.headers.get(b"content-type", b"").lower()
    if not request.body:
        raise BadRequestError("the body is empty; send a picture, a multipart form or JSON")
    if not kind or kind.startswith(RAW_TYPES):
        return Upload([request.body], [None], {})
    if kind.startswith(b"multipart/form-data"):
        upload = await _form(request, max_files)
    elif kind.startswith(b"application/json"):
        body = request.body
        upload = await by_size(len(body), partial(_json, body, max_files))
    else:
        raise UnsupportedMediaTypeError(
            f"content type {kind.decode('latin-1')!r} is not read here; send image/*, "
            "multipart/form-data or application/json"
        )
    if not upload.files:
        raise BadRequestError(
            'no picture in the request; send form files, or JSON {"images": [...]}'
        )
    return upload


def _too_many(count: int | str, limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"{count} files in one request; the limit is {limit} (--max-files)")


class _FormParser(MultiPartParser):
    """Also tells whether the form came as a whole, with the boundary that closes it."""

    whole = False

    def on_end(self) -> None:
        self.whole = True


async def _form(request: Request, max_files: int) -> Upload:
    async def body() -> AsyncGenerator[bytes, None]:
        yield request.body

    # The boundary alone: by a charset beside it, such as UTF-7, file names could become what no
    # answer can repeat.
    _, options = parse_options_header(request.headers[b"content-type"])
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequestError("malformed multipart form: its content type names no boundary")
    headers = Headers(raw=[(b"content-type", b'multipart/form-data; boundary="%s"' % boundary)])
    parser = _FormParser(
        headers, body(), max_files=max_files, max_fields=16, max_part_size=64 * 1024
    )
    # The body is in memory already, and bounded: its parts need no temporary files.
    parser.spool_max_size = len(request.body) + 1
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(f"more than {max_files}", max_files) from error
        raise BadRequestError(f"malformed multipart form: {error.message}") from error
    except (KeyError, ValueError) as error:
        raise BadRequestError(f"malformed multipart form: {error}") from error
    if not parser.whole:
        raise BadRequestError("malformed multipart form: it ends before its closing boundary")
    upload = Upload([], [], {})
    for key, value in form.multi_items():
        if isinstance(value, UploadFile):
            upload.files.append(await value.read())
            upload.names.append(value.filename or None)
        else:
            upload.fields[key] = value
    return upload


def _json(body: bytes, max_files: int) -> Upload:
    try:
        data = parse_json(body)
    except orjson.JSONDecodeError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise BadRequestError('expected JSON {"images": [base64 or {"data", "filename"}, ...]}')
    if len(data["images"]) > max_files:
        raise _too_many(len(data["images"]), max_files)
    upload = Upload([], [], {key: data[key] for key in ("top_k", "model") if key in data})
    for number, entry in enumerate(data["images"]):
        name = entry.get("filename") if isinstance(entry, dict) else None
        text = entry.get("data") if isinstance(entry, dict) else entry
        if not isinstance(text, str) or not isinstance(name, str | None):
            raise BadRequestError(f"images[{number}] must be base64 text or an object with 'data'")
        try:
            upload.files.append(base64.b64decode(text.rpartition(",")[2], validate=True))
        except (binascii.Error, ValueError) as error:
            raise BadRequestError(f"images[{number}] is not base64: {error}") from error
        upload.names.append(name)
    return upload
