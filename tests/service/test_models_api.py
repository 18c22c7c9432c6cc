import pytest

from tests import web
from tests.service import onnx_models
from tests.service.running import running


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        onnx_models.picture_classifier(folder / f"tiny/{version}/model.onnx")
    onnx_models.adder(folder / "adder.onnx")
    with running(folder) as server, web.Client(base_url=server.url) as client:
        yield client


def test_the_models_with_what_a_chooser_needs(client):
    assert client.get("/v1/models").json() == {
        "models": [
            {"name": "adder", "versions": ["1"], "labels": None, "height": None, "width": None},
            {
                "name": "tiny",
                "versions": ["1", "2"],
                "labels": ["red", "green", "blue"],
                "height": 8,
                "width": 8,
            },
        ]
    }


def test_a_model_is_its_card(client):
    card = client.get("/v1/models/tiny").json()
    assert (card["name"], card["version"], card["versions"]) == ("tiny", "2", ["1", "2"])
    assert card["labels"] == ["red", "green", "blue"]
    assert {"mean", "std", "temperature", "accuracy", "provenance", "proof"} <= set(card)
    assert card["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}]
    assert card["provider"] == "cpu"
    assert client.get("/v1/models/tiny", params={"version": 1}).json()["version"] == "1"


def test_a_model_without_a_card_has_inputs_and_outputs(client):
    card = client.get("/v1/models/adder").json()
    assert "labels" not in card
    assert [entry["name"] for entry in card["outputs"]] == ["total", "difference"]


@pytest.mark.parametrize("path", ["none", "tiny?version=9"])
def test_an_unknown_model_is_a_404(client, path):
    answer = client.get(f"/v1/models/{path}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "model_not_found"


def test_a_card_with_half_a_character_is_served_without_it(tmp_path):
    onnx_models.picture_classifier(tmp_path / "odd.onnx", name="caf\udce9")
    with running(tmp_path / "odd.onnx") as server:
        (listed,) = web.get(f"{server.url}/v1/models").json()["models"]
        whole = web.get(f"{server.url}/v1/models/caf%3f")
    assert listed["name"] == "caf?"
    assert (whole.status_code, whole.json()["labels"]) == (200, ["red", "green", "blue"])
