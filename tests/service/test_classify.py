import base64
import io

import numpy as np
import pytest
from PIL import Image

from flatfold.contract.pictures import load_picture
from tests import web

from .onnx_models import identity, picture_classifier, scorer
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
    picture_classifier(folder / "alone.onnx", centred=True)
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


def test_bad_base64_fails_alone(server):
    text = base64.b64encode(picture("green")).decode()
    results = post(server, json={"images": ["not base64!", text]}).json()["results"]
    assert results[0]["code"] == "bad_request"
    assert results[1]["predictions"][0]["label"] == "green"


@pytest.mark.parametrize(("value", "count"), [("99", 3), ("9" * 99, 3), ("0" * 9 + "2", 2)])
def test_top_k_is_bounded_by_the_labels(server, value, count):
    answer = post(server, content=picture("red"), params={"top_k": value})
    assert len(answer.json()["results"][0]["predictions"]) == count


def test_an_empty_field_of_a_form_is_none(server):
    fields = {"top_k": "", "model": ""}
    assert tops(post(server, data=fields, files={"f": ("f", picture("red"))})) == ["red"]


@pytest.mark.parametrize("name", ["top_k", "model"])
def test_an_error_repeats_little_of_what_came(server, name):
    images = [base64.b64encode(picture("red")).decode()]
    answer = post(server, json={"images": images, name: [[0] * 9999] * 9})
    assert answer.status_code == 400
    assert len(answer.content) < 500


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


@pytest.fixture(scope="module")
def cardless(tmp_path_factory):
    """Models whose labels come from the command line; each adds outputs that are no scores."""
    folder = tmp_path_factory.mktemp("cardless")
    scorer(folder / "wide.onnx", embedding=6)
    scorer(folder / "narrow.onnx", embedding=2)
    scorer(folder / "soft.onnx", op="Softmax")
    scorer(folder / "scalar.onnx", total=True)
    scorer(folder / "log.onnx", op="Log")
    labels = folder / "labels.txt"
    labels.write_text("red\ngreen\nblue\n", encoding="utf-8-sig")  # as some editors save it
    with running(folder, labels=str(labels), image_size=8) as process:
        yield process


@pytest.mark.parametrize("name", ["wide", "narrow", "soft", "scalar"])
def test_outputs_beside_the_scores_change_nothing(cardless, name):
    answer = post(cardless, content=picture("green"), params={"model": name})
    assert answer.status_code == 200, answer.text
    scores = np.exp(np.array(COLOURS["green"]) / 255)
    expected = scores / scores.sum()
    (result,) = answer.json()["results"]
    seen = {p["label"]: p["probability"] for p in result["predictions"]}
    assert [seen[label] for label in COLOURS] == pytest.approx(expected, abs=2e-6)


def test_scores_that_are_no_numbers_are_an_error_of_their_picture(cardless):
    black = io.BytesIO()
    Image.new("RGB", (8, 8)).save(black, "PNG")  # log(0) three times: no softmax of that
    alone = post(cardless, content=black.getvalue(), params={"model": "log"})
    assert (alone.status_code, alone.json()["code"]) == (500, "internal")
    files = [("f", ("black", black.getvalue())), ("f", ("red", picture("red")))]
    first, second = post(cardless, files=files, params={"model": "log"}).json()["results"]
    assert first["code"] == "internal"
    assert "NaN or infinity" in first["error"]
    assert second["predictions"][0]["label"] == "red"


def test_a_model_without_batches_counts_its_pictures_and_its_last_call(cardless):
    served = cardless.state.repository.get("scalar")
    before = served.model.executions.by_rows().get(1)
    files = [("f", (str(i), picture("red"))) for i in range(3)]
    assert tops(post(cardless, files=files, params={"model": "scalar"})) == ["red"] * 3
    assert served.model.executions.by_rows()[1].count == (before.count if before else 0) + 3
    assert served.statistics.last_inference > 0
    assert (
        'flatfold_inference_seconds_count{model="scalar"}'
        in web.get(cardless.url + "/metrics").text
    )


@pytest.mark.parametrize("model", ["tiny", "alone"])
def test_a_request_that_is_late_already_runs_nothing(server, model):
    served = server.state.repository.get(model)
    before = served.model.executions.by_rows()
    headers = {"X-Request-Timeout": "1e-9"}
    answer = post(server, content=picture("red"), params={"model": model}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert "before the pictures were decoded" in answer.json()["error"]
    server.call(served.batcher.submit(np.zeros((1, 8, 8, 3), np.uint8)))  # behind what was queued
    after = served.model.executions.by_rows()
    assert sum(run.count for run in after.values()) == sum(r.count for r in before.values()) + 1


def test_an_unknown_models_name_is_repeated_no_longer_than_a_reader_needs(server):
    whole, long = "a-model-of-fifty-letters-" * 2, "x" * 10_000
    answers = [
        web.post(f"{server.url}/v1/classify", json={"images": ["eA=="], "model": name})
        for name in (whole, long)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert f"no model '{whole}'; served: " in answers[0].json()["error"]
    assert len(answers[1].content) < 400
