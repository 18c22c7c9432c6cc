import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from .onnx_models import picture_classifier
from .processes import Process, post
from .test_classify import picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return picture_classifier(tmp_path_factory.mktemp("model") / "tiny.onnx")


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
    words = (sys.executable, "-c", code, "serve", str(model), "--workers", "1")
    done = subprocess.run(words, check=False, timeout=60)
    assert done.returncode == 0
