import orjson
import pytest

from service.errors import BadRequestError, PayloadTooLargeError
from service.forms import MAX_FIELD, MAX_FIELDS, MAX_HEADER, Part, read_form

HEAD = b"--B\r\nContent-Disposition: form-data; "
FILE = HEAD + b'name="f"; filename="%s"\r\n\r\npixels\r\n'
FIELD = HEAD + b'name="top_k"\r\n\r\n%s\r\n'
END = b"--B--"


def read(body, parameters=b"; boundary=B", max_files=4):
    return read_form(b"multipart/form-data" + parameters, body, max_files)


def test_parts_come_in_order_with_their_names():
    parts = read(FILE % b"a.png" + FIELD % b"3" + FILE % "ä".encode() + FILE % b"" + END)
    assert parts == [
        Part("f", "a.png", b"pixels"),
        Part("top_k", None, b"3"),
        Part("f", "ä", b"pixels"),
        Part("f", "", b"pixels"),
    ]


@pytest.mark.parametrize("kind", [b"image/png", b"Image/JPEG", b"application/octet-stream"])
@pytest.mark.parametrize("name", [b"", b"; filename*=UTF-8''na%C3%AFve.png"])
def test_a_picture_without_a_name_is_no_field(kind, name):
    part = HEAD + b'name="f"' + name + b"\r\nContent-Type: " + kind + b"\r\n\r\npixels\r\n"
    field = FIELD.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n") % b"3"
    parts = read(part + FILE % b"a.png" + field + END)
    assert [each.filename for each in parts] == ["", "a.png", None]
    with pytest.raises(PayloadTooLargeError):
        read(part * 5 + END)


@pytest.mark.parametrize(
    "data", [b"", b"\r", b"\r\n", b"\r\n--", b"\r\n--A", b"--B", b"\r\n-" * 9, b"\0\xff" * 999]
)
def test_a_file_may_hold_any_bytes(data):
    parts = read((FILE % b"a").replace(b"pixels", data) + FIELD % b"3" + END + b"\r\nepilogue")
    assert parts == [Part("f", "a", data), Part("top_k", None, b"3")]


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 9, 30, len(FILE), len(FILE) + 20])
def test_a_form_that_was_cut_off_is_refused(cut):
    body = FILE % b"a.png" + FILE % b"b.png" + END
    with pytest.raises(BadRequestError, match="ends before its closing boundary"):
        read(body[:-cut])


@pytest.mark.parametrize(
    ("charset", "name"),
    [(b"utf-7", b"+2AA-.png"), (b"raw_unicode_escape", rb"\ud800.png"), (b"idna", b"a" * 300)],
)
def test_a_forms_charset_makes_no_name_that_is_no_text(charset, name):
    (part,) = read(FILE % name + END, b"; charset=" + charset + b'; boundary="B"')
    assert orjson.loads(orjson.dumps(part.filename)) == name.decode()


@pytest.mark.parametrize("parameters", [b"", b"; boundary=", b"; charset=utf-8"])
def test_a_form_without_a_boundary_is_refused(parameters):
    with pytest.raises(BadRequestError, match="names no boundary"):
        read(FILE % b"a.png" + END, parameters)


LONG = b"x" * (MAX_HEADER + 1)


@pytest.mark.parametrize(
    ("body", "parameters", "message"),
    [
        (b"junk", b"; boundary=B", "malformed multipart form: "),
        (FILE % b"a" + END, b"; boundary=" + b"B" * 999, "malformed multipart form: "),
        (b"--B\r\nX: y\r\n\r\npixels\r\n" + END, b"; boundary=B", "a part lacks its"),
        (FILE % b"a" + END, b"; x=" + LONG + b"; boundary=B", f"the limit is {MAX_HEADER}"),
        (FILE % LONG + END, b"; boundary=B", f"the limit is {MAX_HEADER}"),
        (FIELD % b"3" * (MAX_FIELDS + 1) + END, b"; boundary=B", f"more than {MAX_FIELDS} fields"),
        (
            FIELD % bytes(MAX_FIELD + 1) + END,
            b"; boundary=B",
            "'top_k' .* sent with a filename or as image",
        ),
    ],
)
def test_what_is_wrong_with_a_form_is_told(body, parameters, message):
    with pytest.raises(BadRequestError, match=message):
        read(body, parameters)


def test_more_files_than_the_limit_are_refused():
    assert len(read(FILE % b"a" * 4 + FIELD % b"3" + END)) == 5
    with pytest.raises(PayloadTooLargeError, match=r"more than 4 files .*--max-files"):
        read(FILE % b"a" * 5 + END)
