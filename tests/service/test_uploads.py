import base64
import gzip
import threading

import orjson
import pytest

from service import uploads
from service.errors import BadRequestError, PayloadTooLargeError, UnsupportedMediaTypeError
from service.http import Request
from service.uploads import read_upload

pytestmark = pytest.mark.anyio

FILE = b'--B\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\npixels\r\n'
END = b"--B--"


@pytest.fixture
def anyio_backend():
    return "asyncio"


def request(body, kind, **headers):
    named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Request({b"content-type": kind, **named}, b"", body, None)


def form(body, parameters=b"; boundary=B"):
    return request(body, b"multipart/form-data" + parameters)


def images(*entries):
    return request(orjson.dumps({"images": entries}), b"application/json")


async def test_a_form_of_two_files():
    upload = await read_upload(form(FILE % b"a.png" + FILE % "ä".encode() + END), 2)
    assert upload.files == [b"pixels"] * 2
    assert upload.names == ["a.png", "ä"]


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 9, 30, len(FILE), len(FILE) + 20])
async def test_a_form_that_was_cut_off_is_refused(cut):
    body = FILE % b"a.png" + FILE % b"b.png" + END
    with pytest.raises(BadRequestError, match="ends before its closing boundary"):
        await read_upload(form(body[:-cut]), 4)


@pytest.mark.parametrize(
    ("charset", "name"),
    [(b"utf-7", b"+2AA-.png"), (b"raw_unicode_escape", rb"\ud800.png"), (b"idna", b"a" * 300)],
)
async def test_a_forms_charset_makes_no_name_that_is_no_text(charset, name):
    parameters = b"; charset=" + charset + b'; boundary="B"'
    upload = await read_upload(form(FILE % name + END, parameters), 4)
    assert orjson.loads(orjson.dumps(upload.names)) == [name.decode()]


@pytest.mark.parametrize("parameters", [b"", b"; boundary=", b"; charset=utf-8"])
async def test_a_form_without_a_boundary_is_refused(parameters):
    with pytest.raises(BadRequestError, match="names no boundary"):
        await read_upload(form(FILE % b"a.png" + END, parameters), 4)


async def test_json_of_too_many_pictures_is_refused_before_any_is_decoded(monkeypatch):
    monkeypatch.setattr(uploads.base64, "b64decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(PayloadTooLargeError, match=r"5 files in one request; the limit is 4"):
        await read_upload(images(*["AAAA"] * 5), 4)


@pytest.mark.parametrize(("size", "in_thread"), [(100, False), (100_000, True)])
async def test_large_json_is_read_in_a_thread(monkeypatch, size, in_thread):
    readers = []

    def parse(text):
        readers.append(threading.current_thread())
        return orjson.loads(text)

    monkeypatch.setattr(uploads, "parse_json", parse)
    upload = await read_upload(images(base64.b64encode(bytes(size)).decode()), 4)
    assert upload.files == [bytes(size)]
    assert [reader is not threading.current_thread() for reader in readers] == [in_thread]


async def test_a_compressed_body_is_told_so():
    packed = gzip.compress(b"pixels", mtime=0)
    with pytest.raises(UnsupportedMediaTypeError, match="'gzip'; send the body as it is"):
        await read_upload(request(packed, b"image/png", content_encoding=b"gzip"), 4)
    plain = await read_upload(request(b"pixels", b"image/png", content_encoding=b"Identity"), 4)
    assert plain.files == [b"pixels"]
