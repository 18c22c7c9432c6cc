import pytest

from service import routes
from service.hot import find_hot
from service.v2 import router as v2
from tests import web

from .onnx_models import picture_classifier
from .running import running

DOCUMENTED = [
    *routes.router.routes,
    *(route for route in v2.router.routes if route.endpoint is v2.infer_route),
]


@pytest.mark.parametrize("route", DOCUMENTED, ids=lambda route: route.path)
def test_a_route_that_only_documents_is_answered_before_the_framework(route):
    path = route.path_format.format(model="dogs", version="2")
    for method in route.methods:
        template, _ = find_hot(method, path)
        assert template == route.path


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/classify"),
        ("POST", "/v1/classify/"),
        ("GET", "/v2/models/dogs/infer"),
        ("POST", "/v2/models/dogs/versions/infer"),
        ("POST", "/v2/models/dogs/2/3/infer"),
    ],
)
def test_what_no_hot_route_takes_is_the_frameworks(method, path):
    assert find_hot(method, path) is None


def test_the_documented_version_in_the_query_is_heeded(tmp_path):
    raw = {"content": bytes(192), "headers": {"Inference-Header-Content-Length": "0"}}
    with running(picture_classifier(tmp_path / "tiny.onnx")) as server:
        url = f"{server.url}/v2/models/tiny/infer"
        answers = [web.post(f"{url}?version={version}", **raw) for version in ("1", "2", "")]
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    assert "no version '2'" in answers[1].json()["error"]
