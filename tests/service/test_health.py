import asyncio

import httpx
import pytest

from tests import web

from .onnx_models import picture_classifier
from .running import running


@pytest.fixture
def model(tmp_path):
    return picture_classifier(tmp_path / "tiny.onnx")


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_may_be_asked_for_the_head_alone(model, path):
    with running(model) as server:
        whole, head = (httpx.request(m, server.url + path, timeout=60) for m in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_ready_turns_to_503_when_the_server_is_to_stop(model):
    with running(model) as server:
        assert web.get(f"{server.url}/v2/health/ready").status_code == 200
        server.call(asyncio.sleep(0))
        server.state.draining = True
        stopping = web.get(f"{server.url}/v2/health/ready")
        assert web.get(f"{server.url}/v2/health/live").status_code == 200
    assert stopping.status_code == 503
    assert stopping.headers["connection"] == "close"
