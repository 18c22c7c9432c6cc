"""The infer call as bytes over HTTP: what tritonclient does not send, and anything at all."""

import asyncio
import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.v2 import compression
from service.v2.infer import infer
from tests import web
from tests.service import onnx_models
from tests.service.running import running

TINY = "/v2/models/tiny/infer"
LENGTH = "Inference-Header-Content-Length"
PIXELS = np.full((1, 8, 8, 3), 255, np.uint8)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    onnx_models.picture_classifier(folder / "tiny.onnx")
    onnx_models.adder(folder / "adder.onnx")
    with running(folder) as server, web.Client(base_url=server.url) as client:
        client.headers["Accept-Encoding"] = "identity"
        yield client


def error(answer) -> str:
    """The message of an error answer, which has to have the one shape."""
    content = answer.json()
    assert {"error", "code"} <= set(content)
    assert isinstance(content["error"], str)
    return content["error"]


def test_a_raw_request_is_one_row_and_its_answer_is_binary(client):
    answer = client.post(TINY, content=PIXELS.tobytes(), headers={LENGTH: "0"})
    assert answer.status_code == 200
    length = int(answer.headers[LENGTH])
    message = json.loads(answer.content[:length])
    assert [entry["parameters"] for entry in message["outputs"]] == [{"binary_data_size": 12}] * 2
    logits = np.frombuffer(answer.content[length : length + 12], np.float32)
    assert logits.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (TINY, bytes(191), "must be one row of it; got 191 bytes"),
        (TINY, bytes(384), "must be one row of it; got 384 bytes"),
        (TINY, b"", "must be one row of it; got 0 bytes"),
        ("/v2/models/adder/infer", bytes(8), "fills one input; model 'adder' has 2"),
    ],
)
def test_a_raw_request_that_is_not_one_row_is_refused(client, path, body, message):
    answer = client.post(path, content=body, headers={LENGTH: "0"})
    assert answer.status_code == 400
    assert message in error(answer)


@pytest.mark.parametrize("length", ["-1", "1e3", "x", "9" * 30])
def test_a_header_length_that_is_no_length_is_refused(client, length):
    answer = client.post(TINY, content=b"{}", headers={LENGTH: length})
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in error(answer)


@pytest.mark.parametrize(("elements", "in_thread"), [(10, False), (10_000, True)])
def test_a_large_answer_is_encoded_in_a_thread(client, monkeypatch, elements, in_thread):
    threads, compress = [], compression.compress

    def watched(body, encoding):
        threads.append(threading.current_thread().name)
        return compress(body, encoding)

    monkeypatch.setattr(compression, "compress", watched)
    ones = np.ones(elements, np.float32)
    tensors = [
        {"name": name, "shape": [elements], "datatype": "FP32", "data": ones.tolist()}
        for name in ("a", "b")
    ]
    answer = client.post(
        "/v2/models/adder/infer",
        json={"inputs": tensors, "outputs": [{"name": "total"}]},
        headers={"Accept-Encoding": "gzip"},
    )
    assert answer.json()["outputs"][0]["data"] == [2] * elements
    (thread,) = threads
    assert thread.startswith("asyncio_") == in_thread  # a thread of the loop's, not the loop's own


def test_an_empty_batch_is_refused(client):
    entry = {"name": "images", "shape": [0, 8, 8, 3], "datatype": "UINT8", "data": []}
    answer = client.post(TINY, json={"inputs": [entry]})
    assert answer.status_code == 400
    assert "the batch is empty" in error(answer)


def test_the_id_is_echoed_only_when_given(client):
    entry = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8"}
    request = {"inputs": [{**entry, "data": PIXELS.tolist()}]}
    assert "id" not in client.post(TINY, json=request).json()
    assert client.post(TINY, json={**request, "id": ""}).json()["id"] == ""


def test_an_answer_is_compressed_for_whoever_accepts_it(client):
    headers = {LENGTH: "0", "Accept-Encoding": "gzip"}
    answer = client.post(TINY, content=PIXELS.tobytes(), headers=headers)
    assert answer.headers["Content-Encoding"] == "gzip"
    plain = client.post(TINY, content=PIXELS.tobytes(), headers={LENGTH: "0"})
    assert answer.content == plain.content
    assert answer.headers[LENGTH] == plain.headers[LENGTH]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", TINY, 405),
        ("POST", "/v2/models/none/infer", 404),
        ("POST", "/v2/models//infer", 404),
        ("POST", "/v2/models/tiny/versions/7/infer", 404),
        ("POST", "/v2/models/tiny/versions/x/infer", 404),
        ("POST", "/v2/nothing", 404),
        ("GET", "/v2/", 404),
        ("POST", "/v2/repository/models/tiny/load", 401),
        ("POST", "/v2/repository/models/tiny/unload", 401),
    ],
)
def test_every_refusal_has_the_one_shape(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status
    assert error(answer)


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        LENGTH: st.integers(-1, 300).map(str) | st.just("x"),
        "Content-Encoding": st.sampled_from(["gzip", "deflate", "br", "identity"]),
        "Accept-Encoding": st.sampled_from(["gzip", "deflate;q=0", "*", ";;,"]),
        "X-Request-Timeout": st.sampled_from(["5", "0", "x", "nan"]),
    },
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["images", "a"]),
        "shape": st.sampled_from([[1, 8, 8, 3], [2, 8, 8, 3], [1], [0], [1, 192], []]),
        "datatype": st.sampled_from(["UINT8", "FP32", "BYTES", "BOOL"]),
    },
    optional={
        "data": st.sampled_from([[0] * 192, PIXELS.tolist(), ["x"], [], [0]]),
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(0, 200)}),
    },
)
MESSAGE = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=2)},
    optional={
        "outputs": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["logits", "probabilities", "x"])},
                optional={
                    "parameters": st.fixed_dictionaries(
                        {"classification": st.integers(-1, 5), "binary_data": st.booleans()}
                    )
                },
            ),
            max_size=2,
        )
    },
).map(lambda message: json.dumps(message).encode())


@settings(max_examples=100)
@given(
    body=MESSAGE | st.binary(max_size=200),
    tail=st.just(b"") | st.binary(max_size=200),
    headers=HEADERS,
)
def test_whatever_comes_is_answered_or_refused_as_declared(client, body, tail, headers):
    """h11's property, over HTTP: 200, or a declared 4xx in the one shape; never a 500."""
    answer = client.post(TINY, content=body + tail, headers=headers)
    if answer.status_code != 200:
        assert answer.status_code in (400, 413, 415, 422)
        assert error(answer)


@pytest.mark.parametrize("padding", range(4))
def test_binary_data_may_start_anywhere_in_the_body(client, padding):
    tensors = {"a": np.arange(3, dtype=np.float32), "b": np.ones(3, np.float32)}
    entries = [
        {"name": name, "shape": [3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
        for name in tensors
    ]
    text = json.dumps({"inputs": entries}).encode() + b" " * padding
    body = text + b"".join(tensor.tobytes() for tensor in tensors.values())
    answer = client.post("/v2/models/adder/infer", content=body, headers={LENGTH: str(len(text))})
    assert answer.json()["outputs"][0]["data"] == [1, 2, 3]


@pytest.fixture
def counted(tmp_path):
    onnx_models.picture_classifier(tmp_path / "tiny.onnx")
    with running(tmp_path, max_batch=4) as server:
        yield server


def white(rows):
    """A binary request of so many white pictures: its headers and its body."""
    entry = {"name": "images", "shape": [rows, 8, 8, 3], "datatype": "UINT8"}
    entry["parameters"] = {"binary_data_size": rows * PIXELS.nbytes}
    text = json.dumps({"inputs": [entry]}).encode()
    return {LENGTH: str(len(text))}, text + rows * PIXELS.tobytes()


def test_a_request_of_several_batches_counts_the_time_of_all(counted):
    headers, body = white(38)
    assert web.post(counted.url + TINY, content=body, headers=headers).status_code == 200
    served = counted.state.repository.get()
    runs = served.model.executions.by_rows()
    assert {rows: run.count for rows, run in runs.items()} == {4: 9, 2: 1}
    assert served.statistics.compute_infer.ns >= sum(run.ns for run in runs.values())


def test_a_client_that_leaves_counts_as_a_failure(counted):
    headers, body = white(1)
    lower = {name.lower().encode(): value.encode() for name, value in headers.items()}

    async def leave():
        task = asyncio.create_task(infer(counted.state, "tiny", None, lower, body))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert counted.call(leave())
    statistics = counted.state.repository.get().statistics
    assert (statistics.success.count, statistics.fail.count) == (0, 1)


def test_a_request_that_no_queue_could_hold_is_too_large(tmp_path):
    onnx_models.picture_classifier(tmp_path / "tiny.onnx")
    headers, body = white(38)
    with running(tmp_path, max_batch=4, max_queue=33) as server:
        answer = web.post(server.url + TINY, content=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert "--max-queue" in error(answer)


def test_pictures_of_a_request_that_is_late_already_are_not_decoded(client):
    entry = {"name": "images", "shape": [1], "datatype": "BYTES", "data": ["no picture"]}
    headers = {"X-Request-Timeout": "1e-9"}
    answer = client.post(TINY, json={"inputs": [entry]}, headers=headers)
    assert answer.status_code == 504
    assert "before the pictures were decoded" in error(answer)
