"""gzip and deflate bodies, in and out; what comes out of decompression is capped."""

from __future__ import annotations

import zlib

from service.errors import BadRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from service.shown import shown

# zlib's window argument: 31 is gzip, 15 zlib (what HTTP calls deflate), -15 a bare deflate stream,
# which some clients send under the same name.
_WINDOWS = {"gzip": (31,), "deflate": (15, -15)}
# A gzip body may consist of several members; each one costs a copy of all that follow it.
MAX_MEMBERS = 64
LEVEL = 1  # tensors of floats hardly shrink: speed decides


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding.

    Args:
        body: as received.
        encoding: the header's value; "" and "identity" leave the body as it is.
        limit: most bytes that may come out.

    Raises:
        UnsupportedMediaTypeError: another encoding.
        PayloadTooLargeError: more than `limit` bytes come out.
        BadRequestError: not such data, cut short, or followed by other bytes.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        raise UnsupportedMediaTypeError(
            f"Content-Encoding is {shown(encoding)}; expected gzip, deflate or identity"
        )
    failure: zlib.error | None = None
    for window in _WINDOWS[encoding]:
        try:
            return _inflate(body, window, encoding, limit)
        except zlib.error as error:
            failure = failure or error
    raise BadRequestError(f"the body is not {encoding} data: {failure}") from failure


def _inflate(body: bytes, window: int, encoding: str, limit: int) -> bytes:
    """Return the one stream of a deflate body, or the members of a gzip body one after another.

    Raises:
        zlib.error: it does not begin as such data does.
    """
    plain = b""
    rest = body
    for number in range(MAX_MEMBERS if encoding == "gzip" else 1):
        stream = zlib.decompressobj(window)
        try:
            plain += stream.decompress(rest, limit + 1 - len(plain))
        except zlib.error:
            if number:
                break
            raise
        if len(plain) > limit:
            raise PayloadTooLargeError(
                f"the body decompresses to more than {limit} bytes, the limit for a body"
            )
        if not stream.eof:
            raise BadRequestError(f"the {encoding} body is cut short")
        rest = stream.unused_data
        if not rest:
            return plain
    raise BadRequestError(f"the {encoding} body goes on after its end, with {len(rest)} bytes")


def choose(accept: str) -> str | None:
    """Return the encoding for an answer to this Accept-Encoding: gzip, deflate or None."""
    offered = {}
    for entry in accept.lower().split(","):
        encoding, _, parameters = entry.partition(";")
        offered[encoding.strip()] = parameters.replace(" ", "")
    for encoding in _WINDOWS:
        if encoding in offered and not _refused(offered[encoding]):
            return encoding
    return None


def _refused(parameters: str) -> bool:
    return parameters.startswith("q=0") and not parameters.strip("q=0.")


def compress(body: bytes, encoding: str) -> bytes:
    """Apply the encoding that `choose` chose."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOWS[encoding][0])
    return stream.compress(body) + stream.flush()
