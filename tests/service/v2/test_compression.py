import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    BadRequestError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from service.v2.compression import MAX_MEMBERS, choose, compress, decompress

DATA = b"tensor" * 100
# Without the time of day, or two test workers could name the same test differently.
GZIPPED = gzip.compress(DATA, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", GZIPPED),
        ("GZIP", GZIPPED),
        ("gzip", gzip.compress(DATA[:100], mtime=0) + gzip.compress(DATA[100:], mtime=0)),
        ("deflate", zlib.compress(DATA)),
        ("deflate", zlib.compress(DATA, wbits=-15)),
        ("identity", DATA),
        ("", DATA),
    ],
)
def test_each_encoding_is_undone(encoding, body):
    assert decompress(body, encoding, len(DATA)) == DATA


def test_a_bomb_is_stopped_at_the_limit():
    with pytest.raises(PayloadTooLargeError, match="more than 599 bytes"):
        decompress(GZIPPED, "gzip", 599)


def test_a_bomb_of_several_members_is_stopped_at_the_limit():
    assert decompress(GZIPPED * 3, "gzip", 1800) == DATA * 3
    with pytest.raises(PayloadTooLargeError, match="more than 1799 bytes"):
        decompress(GZIPPED * 3, "gzip", 1799)


def test_deflate_has_no_members():
    with pytest.raises(BadRequestError, match="goes on"):
        decompress(zlib.compress(DATA) * 2, "deflate", 10_000)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (GZIPPED[:-9], "cut short"),
        (GZIPPED + b"more", "goes on after its end, with 4 bytes"),
        (GZIPPED + GZIPPED[:-9], "cut short"),
        (gzip.compress(b"", mtime=0) * (MAX_MEMBERS + 1), "goes on"),
        (DATA, "not gzip"),
        (b"", "cut short"),
    ],
)
def test_broken_data_is_refused(body, message):
    with pytest.raises(BadRequestError, match=message):
        decompress(body, "gzip", 10_000)


def test_another_encoding_is_refused():
    with pytest.raises(UnsupportedMediaTypeError, match="'br'; expected gzip"):
        decompress(DATA, "br", 10_000)


@given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_accepted_or_refused(body, encoding):
    with contextlib.suppress(BadRequestError, PayloadTooLargeError):
        decompress(body, encoding, 1000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_answers_are_read_back(encoding):
    assert decompress(compress(DATA, encoding), encoding, len(DATA)) == DATA


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("", None),
        ("br, zstd", None),
        ("gzip, deflate, br", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("gzip; q=0.000", None),
        ("gzip;q=0.1", "gzip"),
    ],
)
def test_the_answer_is_encoded_as_the_client_accepts(accept, encoding):
    assert choose(accept) == encoding
