"""Swapping models under load: no wrong answer, no lost request; and a runtime that throws."""

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image

from tests import web
from tests.service import onnx_models
from tests.service.running import running

KEY = {"Authorization": "Bearer secret"}
GAINS = (1, 2, 3, 4, 5)
CLIENTS = 4


@pytest.fixture
def path(tmp_path):
    return onnx_models.picture_classifier(tmp_path / "m.onnx", gain=GAINS[0])


@pytest.fixture
def server(path):
    with running(path.parent, admin_keys="secret") as server:
        yield server


def replace_file(path, gain):
    onnx_models.picture_classifier(path.with_suffix(".new"), gain=gain).replace(path)


def pixels(value):
    tensor = triton.InferInput("images", [1, 8, 8, 3], "UINT8")
    return tensor.set_data_from_numpy(np.full((1, 8, 8, 3), value, np.uint8))


def png(red, green, blue) -> bytes:
    """A picture large enough to be decoded in a thread, while the model may be swapped."""
    file = io.BytesIO()
    Image.new("RGB", (200, 200), (red, green, blue)).save(file, "PNG")
    return file.getvalue()


def picture(value):
    tensor = triton.InferInput("images", [1], "BYTES")
    return tensor.set_data_from_numpy(np.array([png(value, value, value)], object))


def ask_until(done, address, seed):
    """Ask with pixels and pictures in turn; return the gain behind each answer, in order."""
    client = triton.InferenceServerClient(address)
    random = np.random.default_rng(seed)
    gains = []
    while not done.is_set() or len(gains) < 10:
        value = int(random.integers(50, 256))
        build = picture if len(gains) % 2 else pixels
        logits = client.infer("m", [build(value)]).as_numpy("logits")
        gains.append(float(logits[0, 0]) * 255 / value)
    client.close()
    return gains


def load(server):
    return web.post(f"{server.url}/v2/repository/models/m/load", headers=KEY)


def test_swaps_under_load_lose_nothing_and_answer_rightly(server, path):
    done = threading.Event()
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(ask_until, done, server.address, seed) for seed in range(CLIENTS)]
        for gain in GAINS[1:]:
            replace_file(path, gain)
            assert load(server).json() == {}
            path.write_bytes(b"corrupt")
            assert load(server).status_code == 422
        done.set()
        answers = [future.result() for future in asked]
    for gains in answers:
        assert np.allclose(gains, np.round(gains), atol=1e-3)
        seen = [round(gain) for gain in gains]
        assert set(seen) <= set(GAINS)
        assert seen == sorted(seen)  # an old model never answers after a newer one
    assert ask_until(done, server.address, 0)[-1] == pytest.approx(GAINS[-1])
    statistics = server.state.repository.get("m").statistics
    assert statistics.fail.count == 0
    assert statistics.success.count == sum(map(len, answers)) + 10


def test_an_old_model_ends_once_nobody_holds_it(server, path):
    repository = server.state.repository
    held = repository.get("m")
    batcher = held.batcher
    rows = np.full((1, 8, 8, 3), 255, np.uint8)
    replace_file(path, 2)
    assert load(server).status_code == 200
    for _ in range(3):  # swapped out, and still answering the request that holds it
        answer = server.call(batcher.submit(rows, deadline=None))
        assert answer.arrays["logits"][0, 0] == pytest.approx(GAINS[0])
    del held
    server.call(repository.drain())
    with pytest.raises(Exception, match="unloaded"):
        server.call(batcher.submit(rows, deadline=None))


def test_a_runtime_that_throws_is_a_500_with_a_body_and_the_server_goes_on(tmp_path):
    onnx_models.lookup(tmp_path / "lookup.onnx", rows=4)
    url = "/v2/models/lookup/infer"
    with running(tmp_path) as server, web.Client(base_url=server.url) as client:

        def ask(*index):
            entry = {"name": "index", "shape": [len(index)], "datatype": "INT64", "data": index}
            return client.post(url, json={"inputs": [entry]})

        for _ in range(3):
            broken = ask(0, 99)
            assert broken.status_code == 500
            assert "the model failed to run" in broken.json()["error"]
            assert ask(3).json()["outputs"][0]["data"] == [6, 7]
        assert client.get("/v2/health/ready").status_code == 200


def test_one_bad_request_does_not_spoil_its_neighbours(tmp_path):
    onnx_models.lookup(tmp_path / "lookup.onnx", rows=4)
    with running(tmp_path) as server, ThreadPoolExecutor(8) as pool:

        def ask(index):
            tensor = {"name": "index", "shape": [1], "datatype": "INT64", "data": [index]}
            answer = web.post(f"{server.url}/v2/models/lookup/infer", json={"inputs": [tensor]})
            return answer.json().get("outputs", [{}])[0].get("data")

        indices = [0, 1, 99, 3, 2, -99, 1, 0] * 4
        expected = [[2 * i, 2 * i + 1] if i in range(4) else None for i in indices]
        assert list(pool.map(ask, indices)) == expected


def test_pictures_never_share_a_batch_where_they_would_change_each_other(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", centred=True, gain=9)
    colors = [base64.b64encode(png(*color)).decode() for color in ((255, 0, 0), (0, 0, 255))]
    with running(path) as server:
        answer = web.post(f"{server.url}/v1/classify", json={"images": colors * 4})
    for result in answer.json()["results"]:  # alone, each picture is the batch's mean
        probabilities = [best["probability"] for best in result["predictions"]]
        assert probabilities == pytest.approx([1 / 3] * 3, abs=1e-4)
