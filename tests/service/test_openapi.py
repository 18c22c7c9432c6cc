"""The API against its own OpenAPI document: whatever is sent, only declared answers come back."""

import re

import pytest
from hypothesis import HealthCheck, given, settings

from tests import web

from .onnx_models import picture_classifier
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


def test_every_operation_says_what_it_does(schema):
    operations = [
        operation
        for path in schema["paths"].values()
        for method, operation in path.items()
        if method in ("get", "post")
    ]
    assert len(operations) >= 15
    assert all(operation.get("summary") for operation in operations)


def test_every_error_is_documented_in_the_one_shape(schema):
    for path in schema["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            assert "default" in answers
            for status, answer in answers.items():
                if status != "200":
                    content = answer["content"]["application/json"]["schema"]
                    assert content["required"] == ["error", "code"]


def test_classify_documents_every_body_and_error_with_examples(schema):
    operation = schema["paths"]["/v1/classify"]["post"]
    bodies = operation["requestBody"]["content"]
    assert {"image/*", "multipart/form-data", "application/json"} <= set(bodies)
    assert {"400", "401", "413", "415", "422", "429", "500", "503", "504"} <= set(
        operation["responses"]
    )
    for answer in operation["responses"].values():
        assert "example" in answer["content"]["application/json"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_page_and_all_that_it_loads_come_from_the_server(server, path):
    page = web.get(f"{server.url}{path}")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert any(name.endswith(".js") for name in loaded)
    for name in loaded:
        assert web.get(f"{server.url}{name}").status_code == 200, name


QUICK = settings(
    max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def test_generated_requests_meet_declared_answers_and_never_a_500(server):
    api = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 15
    for operation in operations:

        @QUICK
        @given(case=operation.as_strategy())
        def send(case):
            answer = case.call()
            assert answer.status_code != 500, answer.text
            if answer.status_code >= 400:
                assert "error" in answer.json()

        send()
    assert web.get(f"{server.url}/v2/health/ready").status_code == 200
