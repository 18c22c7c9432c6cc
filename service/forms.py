"""Multipart forms, cut out of a body that is in memory: no temporary files, no event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequestError, PayloadTooLargeError
from service.shown import shown

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 16
MAX_FIELD = 64 * 1024  # bytes
# A file need not have a name (RFC 7578, 4.2), and `filename*=` is none; fields come as neither.
FILE_TYPES = (b"image/", b"application/octet-stream")
MAX_HEADER = 2048  # bytes; parsing a header takes as long as the square of its length


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form.

    Attributes:
        name: the field's.
        filename: None for a field that is no file; a file's is empty where it has none.
        data: the content.
    """

    name: str
    filename: str | None
    data: bytes


def read_form(content_type: bytes, body: bytes, max_files: int) -> list[Part]:
    """Return the parts of a form, in order.

    Raises:
        BadRequestError: no form, or no end to it, too many fields, or one that is too long.
        PayloadTooLargeError: more files than `max_files`.
    """
    # The boundary alone: by a charset beside it, such as UTF-7, file names could become what no
    # answer can repeat.
    boundary = _options(content_type).get(b"boundary")
    if not boundary:
        raise _malformed("its content type names no boundary")
    collector = _Collector(max_files)
    try:
        MultipartParser(boundary, collector.callbacks()).write(body)
    except FormParserError as error:
        raise _malformed(str(error)) from error
    if not collector.whole:
        raise _malformed("it ends before its closing boundary")
    return collector.parts


def too_many_files(count: int | str, limit: int) -> PayloadTooLargeError:
    """Return the error for a request of `count` files."""
    return PayloadTooLargeError(f"{count} files in one request; the limit is {limit} (--max-files)")


def _malformed(what: str) -> BadRequestError:
    return BadRequestError(f"malformed multipart form: {what}")


class _Collector:
    """Makes parts of what the parser finds. It gets the body whole: no header comes in pieces."""

    def __init__(self, max_files: int) -> None:
        self.parts: list[Part] = []
        self.whole = False
        self._max_files = max_files
        self._files = 0
        self._begin()

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser is to call."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = self._kind = self._header = self._value = b""
        self._name = ""
        self._filename: str | None = None
        self._data: list[bytes] = []
        self._size = 0

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = data[start:end].lower()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = data[start:end]

    def _header_end(self) -> None:
        if self._header == b"content-disposition":
            self._disposition = self._value
        elif self._header == b"content-type":
            self._kind = self._value.lower()
        self._value = b""  # of an empty one nothing is told

    def _headers_finished(self) -> None:
        options = _options(self._disposition)
        if b"name" not in options:
            raise _malformed("a part lacks its 'Content-Disposition: form-data; name=...'")
        self._name = _text(options[b"name"])
        if b"filename" in options:
            self._filename = _text(options[b"filename"])
        elif self._kind.startswith(FILE_TYPES):
            self._filename = ""
        if self._filename is not None:
            self._files += 1
            if self._files > self._max_files:
                raise too_many_files(f"more than {self._max_files}", self._max_files)
        elif len(self.parts) - self._files >= MAX_FIELDS:
            raise _malformed(f"more than {MAX_FIELDS} fields that are no files")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._filename is None and self._size > MAX_FIELD:
            raise _malformed(
                f"the field {shown(self._name)} has more than {MAX_FIELD} bytes; "
                "a picture is sent with a filename or as image/*"
            )
        self._data.append(data[start:end])

    def _part_end(self) -> None:
        self.parts.append(Part(self._name, self._filename, b"".join(self._data)))

    def _end(self) -> None:
        self.whole = True


def _options(header: bytes) -> dict[bytes, bytes]:
    if len(header) > MAX_HEADER:
        raise _malformed(f"a header of {len(header)} bytes; the limit is {MAX_HEADER}")
    return parse_options_header(header)[1]


def _text(sent: bytes) -> str:
    try:
        return sent.decode()
    except UnicodeDecodeError:
        return sent.decode("latin-1")
