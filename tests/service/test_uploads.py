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


async def test_a_form_gives_its_files_names_and_fields():
    field = b'--B\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n3\r\n'
    upload = await read_upload(form(FILE % b"a.png" + field + FILE % b"" + END), 2)
    assert upload.files == [b"pixels"] * 2
    assert upload.names == ["a.png", None]
    assert upload.fields == {"top_k": "3"}


@pytest.mark.parametrize("kind", [b"multipart/form-data-2; boundary=B", b"application/json-seq"])
async def test_what_only_begins_as_a_known_content_type_is_another(kind):
    with pytest.raises(UnsupportedMediaTypeError, match="is not read here"):
        await read_upload(request(FILE % b"a.png" + END, kind), 4)


async def test_json_of_too_many_pictures_is_refused_before_any_is_decoded(monkeypatch):
    monkeypatch.setattr(uploads.base64, "b64decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(PayloadTooLargeError, match=r"5 files in one request; the limit is 4"):
        await read_upload(images(*["AAAA"] * 5), 4)


def large(size, name):
    picture = bytes(size)
    if name == "parse_json":
        return images(base64.b64encode(picture).decode())
    return form((FILE % b"a.png").replace(b"pixels", picture) + END)


@pytest.mark.parametrize("name", ["parse_json", "read_form"])
@pytest.mark.parametrize(("size", "in_thread"), [(100, False), (1_000_000, True)])
async def test_large_bodies_are_read_in_a_thread(monkeypatch, size, in_thread, name):
    readers, read = [], getattr(uploads, name)

    def watched(*args):
        readers.append(threading.current_thread())
        return read(*args)

    monkeypatch.setattr(uploads, name, watched)
    upload = await read_upload(large(size, name), 4)
    assert upload.files == [bytes(size)]
    assert [reader is not threading.current_thread() for reader in readers] == [in_thread]


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'""'])
async def test_json_of_many_values_is_refused_before_it_is_parsed(monkeypatch, value):
    monkeypatch.setattr(uploads, "parse_json", lambda _: pytest.fail("parsed"))
    values = b"[" + value + (b"," + value) * 200_000 + b"]"
    with pytest.raises(PayloadTooLargeError, match="commas and opening brackets; the limit is"):
        await read_upload(request(b'{"x": %b, "images": []}' % values, b"application/json"), 4)


TEXT = base64.b64encode(bytes(range(99))).decode()


@pytest.mark.parametrize(
    "text", [TEXT, "data:image/png;base64," + TEXT, base64.encodebytes(bytes(range(99))).decode()]
)
async def test_base64_comes_as_encoders_write_it(text):
    assert (await read_upload(images(text), 4)).files == [bytes(range(99))]


@pytest.mark.parametrize("text", ["AAAA,AAAA", "AAAA AAAA", "AA-_", "AAA", "é"])
async def test_what_is_no_base64_fails_alone(text):
    first, second = (await read_upload(images(text, "AAAA"), 4)).files
    assert isinstance(first, BadRequestError)
    assert str(first).startswith("images[0] is not base64: ")
    assert second == bytes(3)


async def test_a_compressed_body_is_told_so():
    packed = gzip.compress(b"pixels", mtime=0)
    with pytest.raises(UnsupportedMediaTypeError, match="'gzip'; send the body as it is"):
        await read_upload(request(packed, b"image/png", content_encoding=b"gzip"), 4)
    plain = await read_upload(request(b"pixels", b"image/png", content_encoding=b"Identity"), 4)
    assert plain.files == [b"pixels"]
