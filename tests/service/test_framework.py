import subprocess
import sys

from tests import web

from .onnx_models import picture_classifier
from .running import running
from .test_classify import picture


def test_serving_does_not_import_the_framework():
    code = (
        "import sys, service.server\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'fastapi', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_framework_is_made_once_when_it_is_first_asked(tmp_path, monkeypatch):
    from service import framework  # noqa: PLC0415 - to watch how often it makes one

    made = []
    make = framework._make
    monkeypatch.setattr(framework, "_make", lambda state: made.append(state) or make(state))
    with running(picture_classifier(tmp_path / "tiny.onnx")) as server, web.Client() as client:
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
            assert client.get(server.url + path).status_code == 200
        assert client.post(f"{server.url}/v1/classify", content=picture("red")).status_code == 200
        assert made == []
        for _ in range(2):
            assert client.get(f"{server.url}/v1/models").status_code == 200
    assert len(made) == 1
