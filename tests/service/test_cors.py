import httpx
import pytest

from tests import web

from .onnx_models import picture_classifier
from .running import running
from .test_classify import picture


@pytest.fixture
def model(tmp_path):
    return picture_classifier(tmp_path / "tiny.onnx")


def test_cross_origin_is_off_unless_set(model):
    origin = {"origin": "https://example.org"}
    with running(model) as server:
        closed = web.get(f"{server.url}/v1/models", headers=origin)
    with running(model, cors="https://example.org") as server:
        opened = web.get(f"{server.url}/v1/models", headers=origin)
        answer = web.post(f"{server.url}/v1/classify", content=picture("red"), headers=origin)
    assert "access-control-allow-origin" not in closed.headers
    assert opened.headers["access-control-allow-origin"] == "https://example.org"
    assert answer.status_code == 200


def test_another_origins_page_sends_its_key_and_reads_every_answer(model):
    origin = {"origin": "https://example.org"}
    asks = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, x-request-timeout",
    }
    with running(model, cors="https://example.org", api_keys="sesame", max_body=1000) as server:
        url = f"{server.url}/v1/classify"
        preflight = httpx.options(url, headers=origin | asks, timeout=60)
        key = origin | {"authorization": "Bearer sesame"}
        answers = [
            web.post(url, content=picture("red"), headers=key),
            web.post(url, content=picture("red"), headers=origin),
            web.post(url, content=b"x" * 1001, headers=key),
            web.get(f"{server.url}/nope", headers=key),
        ]
        foreign = web.post(url, headers={"origin": "https://example.com"})
        refused = httpx.options(url, headers=asks | {"origin": "https://example.com"}, timeout=60)
        counted = web.get(f"{server.url}/metrics", headers=key).text
    assert preflight.status_code == 200
    assert (
        preflight.headers["access-control-allow-headers"] == asks["access-control-request-headers"]
    )
    assert [answer.status_code for answer in answers] == [200, 401, 413, 404]
    for answer in (preflight, *answers):
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
    for answer in answers:
        assert "X-Request-Id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in foreign.headers
    assert refused.json() == {
        "error": "Disallowed CORS origin: see the server's --cors",
        "code": "bad_request",
    }
    for status in (200, 400):
        assert f'flatfold_requests_total{{route="preflight",status="{status}"}} 1.0' in counted


def test_a_preflights_answer_says_that_the_server_is_to_stop(model):
    asks = {"origin": "https://example.org", "access-control-request-method": "POST"}
    with running(model, cors="https://example.org") as server:
        server.state.draining = True
        preflight = httpx.options(f"{server.url}/v1/classify", headers=asks, timeout=60)
    assert preflight.status_code == 200
    assert preflight.headers["connection"] == "close"
