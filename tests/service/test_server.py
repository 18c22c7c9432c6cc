import http.client
import json
import signal
import socket
import subprocess
import sys

import pytest

from service.config import Settings
from service.server import make_server
from tests import web

from .onnx_models import picture_classifier
from .processes import Process, ask_on_many, post
from .test_classify import picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return picture_classifier(tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_prints_where_it_is_and_a_curl_line_that_works(model, tmp_path):
    with Process(model) as server:
        (tmp_path / "photo.jpg").write_bytes(picture("blue", "JPEG", 32))
        command = server.curl.removeprefix("try: ").strip()
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    assert json.loads(done.stdout)["results"][0]["predictions"][0]["label"] == "blue"


def test_serving_imports_nothing_of_training_or_export():
    code = (
        "import sys, service.server, service.commands.serve, service.commands.classify\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}"
        " & {'torch', 'onnx', 'training', 'export', 'matplotlib', 'onnxscript'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_head_that_never_ends_is_given_up(model):
    with Process(model, "--header-timeout", "0.2") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(b"POST /v1/classify HTTP/1.1\r\nhost:")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        assert post(connection)[0] == 200
        connection.close()
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_what_is_refused_unread_is_counted(model):
    with Process(model) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(b"no request\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        metrics = web.get(f"http://127.0.0.1:{server.port}/metrics").text
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert 'flatfold_requests_total{route="unread",status="400"} 1.0' in metrics


def test_the_soft_limit_of_open_files_resets_no_connection(model):
    code = (
        "import resource, sys, flatfold.cli\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))\n"
        "sys.exit(flatfold.cli.main(sys.argv[1:]))"
    )
    with Process(model, start=("-c", code)) as server:
        connections = ask_on_many(server, 150)
        assert [each.getresponse().status for each in connections] == [200] * 150
        for each in connections:
            each.close()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.onnx"], 1, "nowhere.onnx"),
        (["--max-batch", "none"], 2, "--max-batch must be a whole number"),
        (["--provider", "cuda"], 1, "cuda"),
        (["--labels", "nowhere.txt"], 2, "cannot read the labels nowhere.txt: No such file"),
        (["--flag-of-nobody"], 2, "unrecognized arguments"),
    ],
)
def test_wrong_use_is_one_line_and_an_exit_code(model, words, code, message):
    server = Process(*([model] if words[0].startswith("--") else []), *words)
    returned, out, err = server.end()
    assert (returned, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_a_file_that_is_no_model_is_one_line(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model at all")
    code, _, err = Process(tmp_path / "broken.onnx").end()
    assert code == 1
    assert "broken.onnx" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_taken_port_is_told(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = Process(model, "--port", port).end()
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "--port" in err


def test_fractions_of_a_second_count():
    config = make_server(Settings(keep_alive=0.4)).config
    assert config.timeout_keep_alive == pytest.approx(0.4)


def test_show_config_is_json(model):
    code, out, _ = Process("--show-config", FLATFOLD_MAX_BATCH="7").end()
    assert code == 0
    assert json.loads(out)["max_batch"] == 7


def test_logs_are_json_on_request(model):
    with Process(model, "--log-format", "json", "--access-log", "all") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/nope", headers={"x-request-id": "abc", "x-api-key": "secret"})
        connection.getresponse().read()
        connection.close()
        server.process.send_signal(signal.SIGTERM)
        _, _, err = server.end()
    events = [json.loads(line) for line in err.splitlines()]
    (event,) = [event for event in events if event.get("path") == "/nope"]
    assert (event["request_id"], event["status"], event["method"]) == ("abc", 404, "GET")
    assert "secret" not in err


def test_a_client_cannot_write_lines_or_colours_into_the_log(model):
    with Process(model) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/%0aforged%1b[31m", headers={"x-request-id": b"\x9b31m"})
        assert connection.getresponse().status == 404
        server.process.send_signal(signal.SIGTERM)
        connection.close()
        _, _, err = server.end()
    line = next(line for line in err.splitlines() if "forged" in line)
    assert "GET /%0aforged%1b[31m 404" in line
    assert line.endswith(r"request_id=\x9b31m")
