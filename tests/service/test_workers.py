import http.client
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from time import monotonic

import pytest

from service.config import Settings
from service.metrics import SHARED_FOLDER
from service.workers import work
from tests import web

from .onnx_models import picture_classifier
from .test_classify import picture
from .test_server import Process, post


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return picture_classifier(tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_metrics_are_the_whole_servers_and_connections_are_shared_evenly(model):
    with Process(model, "--workers", "2") as server:
        url = f"http://127.0.0.1:{server.port}"
        connections = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(6)]
        with ThreadPoolExecutor(6) as clients:
            answers = list(clients.map(post, connections))
        for connection in connections:
            connection.close()
        text = web.get(f"{url}/metrics").text
        server.process.send_signal(signal.SIGTERM)
        code, _, err = server.end()
    assert [status for status, *_ in answers] == [200] * 6
    assert 'flatfold_requests_total{route="/v1/classify",status="200"} 6.0' in text
    assert (code, "Traceback" in err) == (0, False)


def test_a_worker_that_dies_is_replaced(model):
    with Process(model, "--workers", "2") as server:
        children = os.popen(f"pgrep -P {server.process.pid} -f spawn_main").read().split()  # noqa: S605
        os.kill(int(children[0]), signal.SIGKILL)
        line = next(line for line in server.process.stderr if "starting another" in line)
        assert re.search(r"worker \d ended with code -9", line)
        statuses = [
            web.post(
                f"http://127.0.0.1:{server.port}/v1/classify", content=picture("red")
            ).status_code
            for _ in range(4)
        ]
        server.process.send_signal(signal.SIGTERM)
        code, _, _ = server.end()
    assert statuses == [200] * 4
    assert code == 0


def test_what_runs_now_is_told_of_all_workers_whoever_is_asked(model):
    def in_flight():
        scraped.request("GET", "/metrics")
        text = scraped.getresponse().read().decode()
        return float(re.search(r"^flatfold_requests_in_flight (.*)$", text, re.MULTILINE)[1])

    def until(count):
        ends = monotonic() + 20
        while (seen := in_flight()) != count:
            assert monotonic() < ends, seen

    def hold():  # connections are dealt out in turn: this one goes to the other worker
        held = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        head = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
        held.sendall(head + b"expect: 100-continue\r\n\r\n")
        assert held.recv(100).startswith(b"HTTP/1.1 100")
        return held

    with Process(model, "--workers", "2") as server:
        scraped = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        until(1)  # the scrape itself
        held = hold()
        until(2)
        held.close()
        until(1)
        children = set(os.popen(f"pgrep -P {server.process.pid} -f spawn_main").read().split())  # noqa: S605
        here = hold(), hold()
        until(3)
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        for _ in children:
            next(line for line in server.process.stderr if "starting another" in line)
        scraped.close()
        until(1)  # of the new workers; the old ones' requests are gone
        for each in (*here, scraped):
            each.close()


def test_a_worker_whose_parent_dies_before_it_hears_of_it_ends(model, tmp_path, monkeypatch):
    monkeypatch.setenv(SHARED_FOLDER, str(tmp_path))
    line, theirs = socket.socketpair()
    news, told = socket.socketpair()
    settings = Settings(models=(str(model),), workers=2, threads=1)
    process = get_context("spawn").Process(target=work, args=(settings, theirs, told))
    process.start()
    theirs.close()
    told.close()
    news.settimeout(60)
    assert news.recv(5, socket.MSG_PEEK) == b"ready"  # and nobody takes it
    news.close()
    line.close()
    process.join(60)
    try:
        assert process.exitcode == 0
    finally:
        process.kill()


def test_a_worker_that_cannot_start_is_one_line(tmp_path):
    server = Process(tmp_path / "nowhere.onnx", "--workers", "2")
    code, out, err = server.end()
    assert (code, out) == (1, "")
    assert "nowhere.onnx" in err.splitlines()[-1]
    assert "Traceback" not in err
