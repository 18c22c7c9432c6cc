import base64
import io

import numpy as np
import pytest
from PIL import Image

from flatfold.contract.pictures import load_picture
from tests import web

from .onnx_models import identity, picture_classifier
from .running import running

HTML = {"content-type": "text/html"}
COLOURS = {"red": (250, 20, 20), "green": (20, 250, 20), "blue": (20, 20, 250)}


def picture(colour, kind="PNG", size=8):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), COLOURS[colour]).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    picture_classifier(folder / "tiny.onnx", gain=5.0)
    identity(folder / "plain.onnx")
    with running(folder, default_model="tiny", max_files=4) as process:
        yield process


def post(server, **options):
    return web.post(f"{server.url}/v1/classify", **options)


def tops(answer):
    assert answer.status_code == 200, answer.text
    return [result["predictions"][0]["label"] for result in answer.json()["results"]]


def test_a_raw_body_gets_the_documented_shape(server):
    answer = post(server, content=picture("green"), params={"top_k": 2})
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["model"] == "tiny"
    ((result),) = body["results"]
    assert set(result) == {"filename", "predictions"}
    assert result["predictions"][0]["label"] == "green"
    assert [set(p) for p in result["predictions"]] == [{"label", "probability"}] * 2


def test_probabilities_are_the_models_own(server):
    pixels = load_picture(picture("red"), 8, 8)
    logits = 5 * pixels.reshape(-1, 3).mean(0) / 255
    expected = np.exp(logits) / np.exp(logits).sum()
    (result,) = post(server, content=picture("red")).json()["results"]
    seen = {p["label"]: p["probability"] for p in result["predictions"]}
    assert [seen[label] for label in COLOURS] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", None])
def test_raw_content_types(server, kind):
    headers = {"content-type": kind} if kind else {}
    assert tops(post(server, content=picture("blue"), headers=headers)) == ["blue"]


def test_a_form_keeps_order_and_names(server):
    files = [("files", (f"{name}.png", picture(name))) for name in ("blue", "red", "green")]
    answer = post(server, files=files)
    assert tops(answer) == ["blue", "red", "green"]
    assert [r["filename"] for r in answer.json()["results"]] == ["blue.png", "red.png", "green.png"]


def test_a_bad_file_fails_alone(server):
    files = [
        ("a", ("a.png", picture("red"))),
        ("b", ("b.txt", b"hello")),
        ("c", ("c", picture("blue"))),
    ]
    results = post(server, files=files).json()["results"]
    assert "predictions" in results[0]
    assert results[1]["code"] == "unprocessable"
    assert results[2]["predictions"][0]["label"] == "blue"


def test_json_with_base64(server):
    text = base64.b64encode(picture("green")).decode()
    images = [text, {"data": "data:image/png;base64," + text, "filename": "x.png"}]
    answer = post(server, json={"images": images, "top_k": 1})
    assert tops(answer) == ["green", "green"]
    assert answer.json()["results"][1]["filename"] == "x.png"
    assert len(answer.json()["results"][0]["predictions"]) == 1


def test_top_k_is_bounded_by_the_labels(server):
    answer = post(server, content=picture("red"), params={"top_k": 99})
    assert len(answer.json()["results"][0]["predictions"]) == 3


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_top_k_is_told(server, value):
    answer = post(server, content=picture("red"), params={"top_k": value})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "top_k must be a whole number" in answer.json()["error"]


@pytest.mark.parametrize("value", [5, True, False, ["tiny"], [], {"name": "tiny"}])
def test_a_model_that_is_no_name_is_told(server, value):
    images = [base64.b64encode(picture("red")).decode()]
    answer = post(server, json={"images": images, "model": value})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "model must be a model's name" in answer.json()["error"]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"content": b""}, 400, "bad_request"),
        ({"content": b"hello"}, 422, "unprocessable"),
        ({"content": picture("red", "JPEG", 64)[:300]}, 422, "unprocessable"),
        (
            {"content": b"<p>", "headers": {"content-type": "text/html"}},
            415,
            "unsupported_media_type",
        ),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"json": {"pictures": []}}, 400, "bad_request"),
        ({"json": {"images": []}}, 400, "bad_request"),
        ({"json": {"images": [7]}}, 400, "bad_request"),
        ({"json": {"images": ["not base64!"]}}, 400, "bad_request"),
        ({"files": {"field": (None, "only")}}, 400, "bad_request"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "bad_request"),
        ({"content": picture("red"), "params": {"model": "nobody"}}, 404, "model_not_found"),
        ({"content": picture("red"), "params": {"model": "plain"}}, 422, "unprocessable"),
        ({"files": [("f", ("f", picture("red")))] * 5}, 413, "too_large"),
    ],
)
def test_bad_requests_get_their_error_and_the_server_goes_on(server, options, status, code):
    answer = post(server, **options)
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert set(answer.json()) >= {"error", "code"}
    assert tops(post(server, content=picture("red"))) == ["red"]


def test_all_files_bad_is_an_error_with_each_reason(server):
    answer = post(server, files=[("a", ("a", b"x")), ("b", ("b", b"y"))])
    assert answer.status_code == 422
    assert [result["filename"] for result in answer.json()["results"]] == ["a", "b"]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats(server, kind):
    assert tops(post(server, content=picture("green", kind, 16))) == ["green"]


def test_a_large_picture_decodes_to_the_same_pixels_as_the_contract(server):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG")
    expected = 5 * load_picture(buffer.getvalue(), 8, 8).reshape(-1, 3).mean(0) / 255
    (result,) = post(server, content=buffer.getvalue()).json()["results"]
    seen = {p["label"]: p["probability"] for p in result["predictions"]}
    expected = np.exp(expected) / np.exp(expected).sum()
    assert [seen[label] for label in COLOURS] == pytest.approx(expected, abs=2e-6)
