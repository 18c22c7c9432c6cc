import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.config import Settings
from service.server import make_server

from .onnx_models import picture_classifier
from .test_classify import picture


class Process:
    """`flatfold serve` as a user starts it."""

    def __init__(self, *words, start=("-m", "flatfold"), **environment):
        self.process = subprocess.Popen(
            [sys.executable, *start, "serve", "--port", "0", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # a group of its own, as a terminal or systemd gives it
        )

    def __enter__(self):
        line = self.process.stdout.readline()
        self.port = int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])
        self.curl = self.process.stdout.readline()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=60)  # its workers end with it

    def end(self):
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return picture_classifier(tmp_path_factory.mktemp("model") / "tiny.onnx")


def post(connection):
    connection.request("POST", "/v1/classify", picture("red"))
    answer = connection.getresponse()
    return answer.status, answer.headers.get("connection"), json.loads(answer.read())


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


def stop_amid(server, client, flowing, clients):
    """Send SIGTERM once `flowing` is set by so many clients; return exit code and log."""
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    assert flowing.wait(60)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    code, _, err = server.end()
    return code, err


def test_sigterm_loses_no_request(model):
    with Process(model) as server:
        kept, lost, flowing = [], [], threading.Event()

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            while True:
                try:
                    connection.connect()
                except (ConnectionRefusedError, ConnectionResetError):
                    return  # the listener is closed: nothing was sent, nothing was promised
                try:
                    while True:
                        status, hint, _ = post(connection)
                        kept.append(status)
                        if len(kept) == 40:
                            flowing.set()
                        if hint == "close":
                            break
                except OSError as error:
                    lost.append(error)
                    return
                finally:
                    connection.close()

        code, _ = stop_amid(server, client, flowing, clients=4)
    assert lost == []
    assert set(kept) == {200}
    assert code == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_resets_no_connection(model, workers):
    # Many short connections: some arrive between the last accept and the listener's close.
    with Process(model, "--workers", workers) as server:
        answered, lost, flowing = [], [], threading.Event()

        def client():
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                try:
                    connection.request("GET", "/v2/health/live", headers={"connection": "close"})
                    answered.append(connection.getresponse().read())
                except ConnectionRefusedError:
                    return
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)
                finally:
                    connection.close()
                if len(answered) >= 300:
                    flowing.set()

        code, err = stop_amid(server, client, flowing, clients=8)
    assert lost == []
    assert set(answered) == {b'{"live":true}'}
    assert (code, "Traceback" in err) == (0, False)


def test_an_idle_connection_may_still_ask_after_sigterm(model):
    patient = (  # idle connections stay for as long as a test on a busy machine may need
        "import sys, flatfold.cli, service.graceful\n"
        "service.graceful.LAME_DUCK = 60.0\n"
        "sys.exit(flatfold.cli.main(sys.argv[1:]))"
    )
    with Process(model, "--grace", "60", start=("-c", patient)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        assert post(connection)[0] == 200
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(OSError):  # noqa: PT011 (refused or reset, by the moment)
            while True:
                socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
        status, hint, _ = post(connection)
        code, _, _ = server.end()
    assert (status, hint, code) == (200, "close", 0)


def test_a_second_signal_ends_it_at_once(model):
    with Process(model, "--grace", "60") as server:
        busy = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        head = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
        busy.sendall(head + b"expect: 100-continue\r\n\r\n")
        assert busy.recv(100).startswith(b"HTTP/1.1 100")  # the request is in flight
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(OSError):  # noqa: PT011 (the first signal was heard)
            while True:
                socket.create_connection(("127.0.0.1", server.port), timeout=60).close()
        server.process.send_signal(signal.SIGTERM)
        code, _, _ = server.end()
        busy.close()
    assert code == 128 + signal.SIGTERM


@pytest.mark.parametrize("workers", [1, 2])
def test_grace_ends_what_still_runs_and_says_so(model, workers):
    endless = (  # a model that is still at it when everybody wants to go
        "import sys, threading, flatfold.cli, service.batcher\n"
        "def work(*_):\n    print('runs', flush=True)\n    threading.Event().wait()\n"
        "service.batcher.Batcher._work = work\n"
        "if __name__ == '__main__': sys.exit(flatfold.cli.main(sys.argv[1:]))\n"
    )
    main = model.parent / "endless.py"
    main.write_text(endless)
    words = (model, "--grace", "0.3", "--workers", workers)
    with Process(*words, start=(main,), PYTHONPATH=str(Path.cwd())) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/classify", picture("red"))
        assert server.process.stdout.readline() == "runs\n"
        server.process.send_signal(signal.SIGTERM)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        code, _, err = server.end()
    assert (answer.status, told["code"]) == (503, "not_ready")
    assert answer.headers["connection"] == "close"
    assert "--grace 0.3 s is over; requests that get 503: 1" in err
    assert (code, "Traceback" in err) == (0, False)


def test_sigterm_before_the_server_is_up_ends_it_well(model):
    code = (
        "import signal, sys, flatfold.cli, service.server\n"
        "service.server.serve = lambda settings: signal.raise_signal(signal.SIGTERM) or 5\n"
        "sys.exit(flatfold.cli.main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, "serve", str(model)], check=False)
    assert done.returncode == 0


def test_a_head_that_never_ends_is_given_up(model):
    with Process(model, "--header-timeout", "0.2") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            client.sendall(b"POST /v1/classify HTTP/1.1\r\nhost:")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        assert post(connection)[0] == 200
        connection.close()
    assert answer.startswith(b"HTTP/1.1 408 ")


def ask_on_many(server, count):
    """Open so many connections and ask on each of them."""
    connections = []
    for _ in range(count):
        connections.append(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60))
        connections[-1].request("GET", "/v2/health/live")
    return connections


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
