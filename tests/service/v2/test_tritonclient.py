"""`tritonclient[http]`, unchanged, against `flatfold serve`: the test that counts."""

import io

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.service import onnx_models
from tests.service.processes import Process

KEY = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    onnx_models.picture_classifier(folder / "tiny.onnx")
    onnx_models.adder(folder / "adder.onnx")
    onnx_models.batch_mean(folder / "mean.onnx")
    onnx_models.identity(folder / "echo/2/model.onnx", onnx_models.TensorProto.STRING)
    onnx_models.identity(folder / "echo/10/model.onnx", onnx_models.TensorProto.STRING)
    onnx_models.identity(folder / "flags.onnx", onnx_models.TensorProto.BOOL)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with Process(folder, "--admin-keys", "secret", "--max-body", 100_000) as server:
        yield server


@pytest.fixture
def client(server):
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


def tensor(name, array, datatype="FP32", *, binary=True):
    value = triton.InferInput(name, list(array.shape), datatype)
    value.set_data_from_numpy(array, binary_data=binary)
    return value


def picture(color) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), color).save(file, "PNG")
    return file.getvalue()


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("echo", "2")
    assert not client.is_model_ready("echo", "3")
    assert not client.is_model_ready("none")
    assert set(client.get_server_metadata()["extensions"]) == {
        "binary_tensor_data", "classification", "model_configuration", "model_repository",
        "statistics",
    }  # fmt: skip
    assert client.get_model_metadata("tiny") == {
        "name": "tiny",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        ],
    }
    assert client.get_model_metadata("echo")["versions"] == ["2", "10"]


def test_config_leaves_the_batch_out_as_triton_does(client):
    config = client.get_model_config("tiny")
    assert config["max_batch_size"] > 1
    assert config["input"] == [{"name": "images", "data_type": "TYPE_UINT8", "dims": [8, 8, 3]}]
    assert client.get_model_config("adder")["max_batch_size"] == 0
    assert client.get_model_config("adder")["input"][0]["dims"] == [-1]


@pytest.mark.parametrize("binary", [True, False])
def test_infer_binary_and_json_both_ways(client, binary):
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[0, ..., 1] = 255
    outputs = [
        triton.InferRequestedOutput("logits", binary_data=binary),
        triton.InferRequestedOutput("probabilities", binary_data=not binary),
    ]
    result = client.infer(
        "tiny", [tensor("images", pixels, "UINT8", binary=binary)], outputs=outputs, request_id="q7"
    )
    np.testing.assert_allclose(result.as_numpy("logits"), [[0, 1, 0], [0, 0, 0]], atol=1e-6)
    assert result.as_numpy("probabilities").sum(axis=1) == pytest.approx([1, 1])
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == (
        "q7",
        "tiny",
        "1",
    )


def test_the_clients_default_call_is_binary_and_gives_all_outputs(client):
    result = client.infer("tiny", [tensor("images", np.zeros((1, 8, 8, 3), np.uint8), "UINT8")])
    assert {entry["name"] for entry in result.get_response()["outputs"]} == {
        "logits", "probabilities"
    }  # fmt: skip
    assert result.as_numpy("logits").tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("request_encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_encoding", [None, "gzip", "deflate"])
def test_compression_both_ways(client, request_encoding, response_encoding):
    result = client.infer(
        "adder",
        [tensor("a", np.arange(500, dtype=np.float32)), tensor("b", np.ones(500, np.float32))],
        request_compression_algorithm=request_encoding,
        response_compression_algorithm=response_encoding,
    )
    np.testing.assert_array_equal(result.as_numpy("total"), np.arange(500) + 1)
    np.testing.assert_array_equal(result.as_numpy("difference"), np.arange(500) - 1)


def test_texts_and_booleans_come_back(client):
    texts = np.array([[b"a", "ü".encode()], [b"", b"long" * 99]], object)
    for binary in (True, False):
        result = client.infer("echo", [tensor("x", texts, "BYTES", binary=binary)])
        assert result.as_numpy("y").tolist() == texts.tolist()
    flags = np.array([[True, False]])
    assert client.infer("flags", [tensor("x", flags, "BOOL")]).as_numpy("y").tolist() == [
        [True, False]
    ]


def test_a_chosen_version_answers(client):
    texts = np.array([["a", "b"]], object)
    answer = client.infer("echo", [tensor("x", texts, "BYTES")], model_version="2").get_response()
    assert answer["model_version"] == "2"
    answer = client.infer("echo", [tensor("x", texts, "BYTES")]).get_response()
    assert answer["model_version"] == "10"


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client, binary):
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[1, ..., 2] = 255
    wanted = triton.InferRequestedOutput("logits", binary_data=binary, class_count=2)
    result = client.infer("tiny", [tensor("images", pixels, "UINT8")], outputs=[wanted])
    best = result.as_numpy("logits")
    assert best.shape == (2, 2)
    first, second = (row[0] if binary else row[0].encode() for row in best)
    assert (first, second) == (b"0.000000:0:red", b"1.000000:2:blue")


def test_picture_files_in_place_of_pixels(client):
    files = np.array([picture("red"), picture("blue"), picture("white")], object)
    result = client.infer("tiny", [tensor("images", files, "BYTES")])
    np.testing.assert_allclose(
        result.as_numpy("logits"), [[1, 0, 0], [0, 0, 1], [1, 1, 1]], atol=1e-6
    )


@pytest.mark.parametrize(
    ("files", "status", "message"),
    [
        ([b"no picture"], "422", "picture 0: not a picture"),
        ([picture("red"), picture("red")[:60]], "422", "picture 1: the PNG picture is truncated"),
        ([picture("red")] * 65, "413", "65 pictures in one request; the limit is 64"),
    ],
)
def test_bad_picture_files(client, files, status, message):
    with pytest.raises(InferenceServerException, match=message) as caught:
        client.infer("tiny", [tensor("images", np.array(files, object), "BYTES")])
    assert caught.value.status() == status


def test_a_model_whose_rows_influence_each_other_runs_each_request_whole(client):
    rows = np.array([[1, 2], [3, 6]], np.float32)
    result = client.infer("mean", [tensor("x", rows)])
    assert result.as_numpy("y").tolist() == [[-1, -2], [1, 2]]


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        ("none", [("a", np.ones(2))], "no model 'none'; served:"),
        ("adder", [("a", np.ones(2))], "also needs the input b"),
        ("adder", [("a", np.ones(2)), ("a", np.ones(2))], "input 'a' came twice"),
        ("adder", [("c", np.ones(2))], "has no input 'c'; it has a, b"),
        ("adder", [("a", np.ones(2)), ("b", np.ones(3))], r"expected n = 2 .* got 3"),
        ("adder", [("a", np.ones((1, 2)))], r"expected FP32 \[-1\], got FP32 \[1, 2\]"),
        ("tiny", [("images", np.ones((1, 8, 8, 3)))], r"expected UINT8 \[-1, 8, 8, 3\], got FP32"),
    ],
)
def test_what_does_not_fit_the_model_is_said(client, model, inputs, message):
    with pytest.raises(InferenceServerException, match=message) as caught:
        client.infer(model, [tensor(name, array.astype(np.float32)) for name, array in inputs])
    assert caught.value.status() == ("404" if model == "none" else "400")


def test_an_unknown_output_is_said(client):
    wanted = [triton.InferRequestedOutput("other")]
    inputs = [tensor("a", np.ones(1, np.float32)), tensor("b", np.ones(1, np.float32))]
    with pytest.raises(InferenceServerException, match="no output 'other'; it has total, diff"):
        client.infer("adder", inputs, outputs=wanted)


def test_statistics_count_requests_rows_and_runs(client):
    before = client.get_inference_statistics("tiny")["model_stats"][0]
    pixels = np.zeros((3, 8, 8, 3), np.uint8)
    client.infer("tiny", [tensor("images", pixels, "UINT8")])
    with pytest.raises(InferenceServerException):
        client.infer("tiny", [tensor("images", pixels[..., :2].copy(), "UINT8")])
    after = client.get_inference_statistics("tiny")["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 3
    assert after["execution_count"] == before["execution_count"] + 1
    for name, more in (("success", 1), ("fail", 1), ("compute_infer", 1), ("queue", 1)):
        assert after["inference_stats"][name]["count"] == (
            before["inference_stats"][name]["count"] + more
        )
    assert after["last_inference"] > 0
    assert any(entry["batch_size"] == 3 for entry in after["batch_stats"])
    assert len(client.get_inference_statistics()["model_stats"]) == 6


def test_index_load_and_unload(client, folder):
    onnx_models.adder(folder / "late.onnx")
    with pytest.raises(InferenceServerException, match="need an admin key"):
        client.load_model("late")
    assert {"name": "late", "version": "1", "state": "UNAVAILABLE", "reason": "not loaded"} in (
        client.get_model_repository_index()
    )
    client.load_model("late", headers=KEY)
    assert client.is_model_ready("late")
    client.unload_model("late", headers=KEY)
    assert not client.is_model_ready("late")
    assert {"name": "late", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"} in (
        client.get_model_repository_index()
    )
    with pytest.raises(InferenceServerException, match=r"takes no parameters, got \['config'\]"):
        client.load_model("late", headers=KEY, config="{}")
    with pytest.raises(InferenceServerException, match="no file for a model 'none'"):
        client.load_model("none", headers=KEY)
    (folder / "late.onnx").unlink()


def test_shared_memory_is_refused(client):
    with pytest.raises(InferenceServerException, match="no system shared memory"):
        client.get_system_shared_memory_status()
    with pytest.raises(InferenceServerException, match="no cuda shared memory"):
        client.get_cuda_shared_memory_status()
    shared = triton.InferInput("images", [1, 8, 8, 3], "UINT8")
    shared.set_shared_memory("region", 192)
    with pytest.raises(InferenceServerException, match="no shared memory"):
        client.infer("tiny", [shared])


def test_a_timeout_is_microseconds(client):
    with pytest.raises(InferenceServerException) as caught:
        client.infer(
            "tiny", [tensor("images", np.zeros((1, 8, 8, 3), np.uint8), "UINT8")], timeout=1
        )
    assert caught.value.status() == "504"


def test_a_body_that_unpacks_to_too_much_is_refused(client):
    inputs = [tensor("a", np.zeros(30_000, np.float32)), tensor("b", np.zeros(30_000, np.float32))]
    with pytest.raises(InferenceServerException) as caught:
        client.infer("adder", inputs, request_compression_algorithm="gzip")
    assert caught.value.status() == "413"
