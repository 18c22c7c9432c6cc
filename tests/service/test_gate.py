import http.client
import json
import socket
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tests import web

from .onnx_models import picture_classifier
from .running import running
from .test_classify import picture


@pytest.fixture
def model(tmp_path):
    return picture_classifier(tmp_path / "tiny.onnx")


class Slow:
    """Holds the model's runs until it is let go."""

    def __init__(self, server):
        self.entered, self.gate = threading.Event(), threading.Event()
        batcher = server.state.repository.get().batcher
        run = batcher._run
        self.runs = 0

        def held(rows):
            self.runs += 1
            self.entered.set()
            assert self.gate.wait(60)
            return run(rows)

        batcher._run = held


@contextmanager
def busy(server):
    """Hold a first request's run for the length of the block; yield what holds it."""
    slow = Slow(server)
    url = f"{server.url}/v1/classify"
    first = threading.Thread(target=lambda: web.post(url, content=picture("red")))
    first.start()
    try:
        assert slow.entered.wait(60)
        yield slow
    finally:
        slow.gate.set()
        first.join(60)


def test_unknown_paths_and_wrong_methods_have_the_one_shape(model):
    with running(model) as server:
        missing = web.get(f"{server.url}/nope")
        wrong = web.get(f"{server.url}/v1/classify")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.json()["error"] == "GET is not for /v1/classify; use POST"
    assert wrong.headers["allow"] == "POST"


def test_the_servers_other_processes_are_told_of_work_and_of_its_end(model):
    told = []
    with running(model) as server:
        server.state.neighbours = SimpleNamespace(working=told.append)
        with busy(server):
            assert told == [True]
            web.get(f"{server.url}/nope")
            assert told == [True]
    assert told == [True, False]


def test_every_answer_carries_the_requests_id(model):
    with running(model) as server:
        given = web.get(f"{server.url}/v2/health/live", headers={"x-request-id": "abc"})
        made = web.post(f"{server.url}/v1/classify", content=b"x")
    assert given.headers["x-request-id"] == "abc"
    assert len(made.headers["x-request-id"]) == 16


def test_a_body_over_the_limit_is_refused_announced_or_not(model):
    with running(model, max_body=1000) as server:
        url = f"{server.url}/v1/classify"
        announced = web.post(url, content=b"x" * 1001)
        streamed = web.post(url, content=iter([b"x" * 600] * 2))
        fine = web.post(url, content=picture("red"))
    assert [a.status_code for a in (announced, streamed, fine)] == [413, 413, 200]
    assert "the limit is 1000 (--max-body)" in announced.json()["error"]


def test_a_picture_over_the_pixel_limit_is_refused(model):
    with running(model, max_pixels=63) as server:
        answer = web.post(f"{server.url}/v1/classify", content=picture("red"))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "8x8" in answer.json()["error"]
    assert answer.json()["error"].endswith("(--max-pixels)")


@pytest.mark.parametrize("length", [b"content-length: 100", b"transfer-encoding: chunked"])
@pytest.mark.parametrize("begun", [b"", b"3\r\nabc"])
def test_a_body_that_does_not_arrive_is_given_up(model, length, begun):
    with running(model, header_timeout=0.1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
            head = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\n" + length + b"\r\n\r\n"
            client.sendall(head + begun)
            answer = client.recv(4096)
        assert b"408" in answer.split(b"\r\n")[0]
        assert web.get(f"{server.url}/v2/health/ready").status_code == 200


def test_the_clients_deadline_gives_504(model):
    with running(model) as server:
        slow = Slow(server)
        answer = web.post(
            f"{server.url}/v1/classify",
            content=picture("red"),
            headers={"x-request-timeout": "0.05"},
        )
        slow.gate.set()
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        assert web.post(f"{server.url}/v1/classify", content=picture("red")).status_code == 200


@pytest.mark.parametrize("cors", ["", "https://example.org"])
@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_a_wrong_deadline_is_told(model, value, cors):
    with running(model, cors=cors) as server:
        answer = web.post(
            f"{server.url}/v1/classify", content=b"x", headers={"x-request-timeout": value}
        )
    assert answer.status_code == 400
    assert "X-Request-Timeout" in answer.json()["error"]
    assert answer.json()["error"].endswith(f"got '{value}'")


def test_a_full_queue_answers_429_and_says_when_to_come_back(model):
    with running(model, max_queue=1, max_batch=1) as server:
        slow = Slow(server)
        url = f"{server.url}/v1/classify"
        answers = []
        clients = [
            threading.Thread(target=lambda: answers.append(web.post(url, content=picture("red"))))
            for _ in range(2)
        ]
        clients[0].start()
        assert slow.entered.wait(60)
        clients[1].start()
        until(lambda: server.state.repository.get().batcher.queued == 1)
        refused = web.post(url, content=picture("red"))
        slow.gate.set()
        for client in clients:
            client.join(60)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert [answer.status_code for answer in answers] == [200, 200]


def test_too_many_requests_at_once_get_503(model):
    with running(model, max_connections=1) as server, busy(server):
        refused = web.post(f"{server.url}/v1/classify", content=picture("red"))
        healthy = web.get(f"{server.url}/v2/health/ready")
    assert (refused.status_code, healthy.status_code) == (503, 200)
    assert "--max-connections" in refused.json()["error"]


def until(condition):
    """Wait for another thread's work: it has no event to wait for."""
    for _ in range(20_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not happen")


def test_a_client_that_leaves_is_not_computed(model):
    with running(model) as server:
        batcher = server.state.repository.get().batcher
        with busy(server) as slow:
            leaving = http.client.HTTPConnection("127.0.0.1", server.port)
            leaving.request("POST", "/v1/classify", picture("blue"))
            until(lambda: batcher.queued == 1)
            leaving.close()
            until(lambda: server.state.in_flight == 1)
        assert slow.runs == 1
        assert web.get(f"{server.url}/v2/health/ready").status_code == 200


def test_the_end_of_a_clients_sending_counts_as_leaving_only_while_it_waits(model):
    with running(model) as server:
        batcher = server.state.repository.get().batcher
        with busy(server) as slow:
            waiting = half_closed(
                server, "POST", "/v1/classify", picture("blue"), when=lambda: batcher.queued == 1
            )
            healthy = half_closed(server, "GET", "/v2/health/ready")
        alone = half_closed(server, "POST", "/v1/classify", picture("blue"))
    assert (waiting.status, json.loads(waiting.read())["code"]) == (499, "client_closed")
    assert (healthy.status, alone.status, slow.runs) == (200, 200, 2)


def half_closed(server, *request, when=lambda: True):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(*request)
    until(when)
    connection.sock.shutdown(socket.SHUT_WR)
    return connection.getresponse()


def test_a_runtime_that_throws_gives_500_and_the_server_goes_on(model):
    with running(model) as server:
        batcher = server.state.repository.get().batcher
        run = batcher._run
        batcher._run = lambda rows: 1 / 0
        url = f"{server.url}/v1/classify"
        broken = web.post(url, content=picture("red"))
        batcher._run = run
        assert (broken.status_code, broken.json()["code"]) == (500, "internal")
        assert web.post(url, content=picture("red")).status_code == 200


def test_api_keys_guard_everything_but_health(model):
    with running(model, api_keys="sesame") as server:
        url = f"{server.url}/v1/classify"
        without = web.post(url, content=picture("red"))
        wrong = web.post(url, content=picture("red"), headers={"x-api-key": "other"})
        right = web.post(url, content=picture("red"), headers={"authorization": "Bearer sesame"})
        health = web.get(f"{server.url}/v2/health/ready")
    assert [a.status_code for a in (without, wrong, right, health)] == [401, 401, 200, 200]


def test_refusals_are_counted_by_their_route(model):
    with running(model, max_body=10, api_keys="sesame") as server:
        key = {"x-api-key": "sesame"}
        web.post(f"{server.url}/v1/classify", content=b"x" * 11, headers=key)
        web.post(f"{server.url}/v2/models/tiny/infer", content=b"x")
        text = web.get(f"{server.url}/metrics", headers=key).text
    assert 'flatfold_requests_total{route="/v1/classify",status="413"} 1.0' in text
    assert 'flatfold_requests_total{route="/v2/models/{model}/infer",status="401"} 1.0' in text
    assert "unknown" not in text


def test_metrics_count_requests_by_route_and_never_by_path(model):
    with running(model) as server:
        for path in ("/a", "/b"):
            web.get(server.url + path)
        web.post(f"{server.url}/v1/classify", content=picture("red"))
        text = web.get(f"{server.url}/metrics").text
    assert 'flatfold_requests_total{route="unknown",status="404"} 2.0' in text
    assert 'flatfold_requests_total{route="/v1/classify",status="200"} 1.0' in text
    assert 'flatfold_pictures_total{model="tiny",outcome="classified"} 1.0' in text
    assert 'flatfold_batch_size_count{model="tiny"} 1.0' in text
