import re
from pathlib import Path

from tests import web
from tests.service import onnx_models
from tests.service.running import running

PAGE = Path(__file__).parents[3] / "docs/open-inference-protocol.md"


def test_the_example_of_the_documentation_runs(tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = onnx_models.picture_classifier(tmp_path / "m.onnx", name="cifar10", size=32)
    with running(path) as server:
        exec(example.replace("127.0.0.1:8000", server.address), {})  # noqa: S102 - our own page
    assert "0.333333:0:red" in capsys.readouterr().out


def test_every_call_of_the_table_is_in_the_openapi_document(tmp_path):
    with running(onnx_models.adder(tmp_path / "m.onnx")) as server:
        paths = set(web.get(f"{server.url}/openapi.json").json()["paths"])
    served = {re.sub(r"{\w+}", "{}", path) for path in paths if path.startswith("/v2")}
    page = PAGE.read_text().replace("[/versions/{v}]", "")
    named = {re.sub(r"{\w+}", "{}", path) for path in re.findall(r"/v2[\w/{}]*", page)}
    assert named <= served
