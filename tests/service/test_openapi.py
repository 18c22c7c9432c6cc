"""The API against its own OpenAPI document: whatever is sent, only declared answers come back."""

import io
import re

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from service.auth import Guard
from tests import web

from .onnx_models import adder, picture_classifier
from .running import running

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    model = picture_classifier(tmp_path_factory.mktemp("model") / "tiny.onnx")
    with running(model, admin_keys="sesame") as process:
        yield process


@pytest.fixture(scope="module")
def schema(server):
    return web.get(f"{server.url}/openapi.json").json()


def operations(schema):
    return [
        (path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_says_what_it_does(schema):
    assert len(operations(schema)) >= 15
    assert all(operation.get("summary") for _, _, operation in operations(schema))


def test_classify_documents_every_body_and_error_with_examples(schema):
    operation = schema["paths"]["/v1/classify"]["post"]
    bodies = operation["requestBody"]["content"]
    assert {"image/*", "multipart/form-data", "application/json"} <= set(bodies)
    assert {"400", "401", "413", "415", "422", "429", "500", "503", "504"} <= set(
        operation["responses"]
    )
    for answer in operation["responses"].values():
        assert "example" in answer["content"]["application/json"]


def test_every_error_is_documented_in_the_one_shape(schema):
    for path, method, operation in operations(schema):
        errors = {code: each for code, each in operation["responses"].items() if code != "200"}
        assert "default" in errors, (path, method)
        for answer in errors.values():
            shape = answer["content"]["application/json"]["schema"]
            assert shape["required"] == ["error", "code"], (path, method)


def test_every_call_but_health_may_ask_for_a_key(schema):
    for path, method, operation in operations(schema):
        open_to_all = path.startswith("/v2/health/")
        assert ("401" in operation["responses"]) != open_to_all, (path, method)
        assert bool(operation.get("security")) != open_to_all, (path, method)


def test_the_ways_to_send_a_key_are_those_that_are_read(schema):
    schemes = schema["components"]["securitySchemes"]
    sent = {
        name: ("authorization", f"{each['scheme']} sesame")
        if each["type"] == "http"
        else (each["name"], "sesame")
        for name, each in schemes.items()
    }
    assert {header.lower() for header, _ in sent.values()} == {"authorization", "x-api-key"}
    guard = Guard(["sesame"])
    for header, value in sent.values():
        guard.check({header.lower().encode(): value.encode()}, "/")
    for path, method, operation in operations(schema):
        ways = operation.get("security", [])
        privileged = path.endswith(("/load", "/unload"))
        assert not ways or ({} in ways) != privileged, (path, method)
        assert {name for way in ways for name in way} <= set(schemes)


def test_a_deadline_may_be_asked_for_wherever_one_can_pass(schema):
    for path, method, operation in operations(schema):
        headers = [p for p in operation.get("parameters", []) if p["in"] == "header"]
        timed = "504" in operation["responses"]
        assert [each["name"] for each in headers] == ["X-Request-Timeout"] * timed, (path, method)
        assert not any(each["required"] for each in headers)


def test_every_parameter_of_infer_is_read(schema):
    infer = "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"
    named = [{p["name"] for p in schema["paths"][path]["post"]["parameters"]} for path in infer]
    deadline = "X-Request-Timeout"
    assert named == [{"model", deadline}, {"model", "version", deadline}]


def keys(value, at=""):
    """Return the place of every key in a JSON value; an array's elements share theirs."""
    if isinstance(value, list):
        return {place for each in value for place in keys(each, at)}
    if not isinstance(value, dict):
        return set()
    inner = {place for key, each in value.items() for place in keys(each, f"{at}/{key}")}
    return inner | {f"{at}/{key}" for key in value}


def test_the_examples_of_bodies_can_be_sent_as_they_stand(schema):
    bodies = {
        path.format(model="cifar10", version="1"): operation["requestBody"]["content"]
        for path, _, operation in operations(schema)
        if "requestBody" in operation
    }
    assert len(bodies) >= 4
    with running() as server:  # the shipped model, as somebody who reads the page has it
        for path, content in bodies.items():
            answer = web.post(server.url + path, json=content["application/json"]["example"])
            assert answer.status_code == 200, (path, answer.text)


def test_the_examples_are_like_real_answers(schema):
    with running(admin_keys="sesame") as server:  # the shipped model, whose card is full
        client = web.Client(base_url=server.url, headers={"X-API-Key": "sesame"})
        (served,) = client.get("/v1/models").json()["models"]
        red = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(red, "PNG")
        client.post("/v1/classify", content=red.getvalue())  # so that there is something to count
        for path, method, operation in operations(schema):
            document = operation["responses"]["200"]["content"].get("application/json")
            if document is None or path.endswith(("/infer", "/classify")):
                continue
            url = re.sub(r"{(name|model)}", served["name"], path).format(version="1")
            real = client.request(method, url)
            assert real.status_code == 200, (path, real.text)
            example, answer = keys(document["example"]), keys(real.json())
            assert example <= answer, path
            left_out = {place.split("/")[1] for place in answer - example}
            assert left_out <= {"accuracy", "provenance", "proof", "speed"}, path  # free in form


def test_what_is_required_of_answers_is_there_without_a_card_too(tmp_path, schema):
    with running(adder(tmp_path / "plain.onnx")) as server:
        for path, method, operation in operations(schema):
            if method == "get" and path.startswith(("/v1/models", "/v2/models")):
                shape = operation["responses"]["200"]["content"]["application/json"]["schema"]
                url = re.sub(r"{(name|model)}", "plain", path).format(version="1")
                assert set(shape["required"]) <= set(web.get(server.url + url).json()), path


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_page_and_all_that_it_loads_come_from_the_server(server, path):
    page = web.get(f"{server.url}{path}")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert any(name.endswith(".js") for name in loaded)
    for name in loaded:
        assert web.get(f"{server.url}{name}").status_code == 200, name


QUICK = settings(max_examples=15, database=None, suppress_health_check=list(HealthCheck))


def test_generated_requests_meet_declared_answers_and_never_a_500(server):
    api = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found = [each.ok() for each in api.get_all_operations()]
    assert len(found) >= 15
    for operation in found:

        @QUICK
        @given(case=operation.as_strategy())
        def send(case):
            answer = case.call()
            assert answer.status_code != 500, answer.text
            if answer.status_code >= 400:
                assert {"error", "code"} <= set(answer.json())

        send()
    assert web.get(f"{server.url}/v2/health/ready").status_code == 200
