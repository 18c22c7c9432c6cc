import fcntl
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from math import inf
from pathlib import Path
from time import monotonic

import pytest

from service.cores import MOST_WORKERS, usable_cores
from tests import web

from .onnx_models import picture_classifier
from .processes import Process, ask_on_many, post, workers_of
from .test_classify import picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return picture_classifier(tmp_path_factory.mktemp("model") / "tiny.onnx")


def hold(server):
    """Begin a request to the next worker; it is in flight until `finish`."""
    held = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    held.putrequest("POST", "/v1/classify")
    held.putheader("content-length", str(len(picture("red"))))
    held.putheader("expect", "100-continue")
    held.endheaders()
    assert held.sock.recv(100).startswith(b"HTTP/1.1 100")
    return held


def finish(held):
    """Send the rest of a request; return the answer's status."""
    held.send(picture("red"))
    answer = held.getresponse()
    answer.read()
    held.close()
    return answer.status


def until_nobody_listens(server):
    with pytest.raises(OSError):  # noqa: PT011 (refused or reset, by the moment)
        while True:
            socket.create_connection(("127.0.0.1", server.port), timeout=60).close()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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


@pytest.mark.skipif(usable_cores() == 1, reason="one core")
def test_as_it_comes_there_is_a_process_a_core(model):
    with Process(model, "--workers", "0") as server:
        assert len(workers_of(server)) == min(usable_cores(), MOST_WORKERS)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        assert post(connection)[0] == 200
        connection.close()
        next(line for line in server.process.stderr if "takes all cores while other" in line)


def test_a_worker_that_dies_is_replaced(model):
    with Process(model, "--workers", "2") as server:
        os.kill(workers_of(server)[0], signal.SIGKILL)
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


def test_a_worker_that_is_told_to_end_makes_place_for_another_and_loses_nothing(model):
    with Process(model, "--workers", "2") as server:
        held = hold(server), hold(server)
        told = workers_of(server)[0]
        os.kill(told, signal.SIGTERM)
        line = next(line for line in server.process.stderr if "starting another" in line)
        assert re.search(r"worker \d was told to end", line)
        statuses = [finish(each) for each in held]
        url = f"http://127.0.0.1:{server.port}/v2/health/ready"
        while is_alive(told):
            statuses.append(web.get(url).status_code)
        left = workers_of(server)
        server.process.send_signal(signal.SIGTERM)
        code, _, err = server.end()
    assert set(statuses) == {200}
    assert (len(left), code, "ended with" in err) == (2, 0, False)


def test_one_that_is_killed_as_it_leaves_is_not_taken_for_one_at_work_for_ever(model, tmp_path):
    with Process(model, "--workers", "2", TMPDIR=str(tmp_path)) as server:
        held = hold(server)
        (times,) = tmp_path.glob("flatfold-*/working")
        old = workers_of(server)
        (busy,) = [i for i, last in enumerate(array("d", times.read_bytes())) if last == inf]
        for child in old:  # one of them has the request
            os.kill(child, signal.SIGTERM)
        for _ in old:
            next(line for line in server.process.stderr if "starting another" in line)
        ends = monotonic() + 60
        while len(workers_of(server)) > 3 or not array("d", times.read_bytes())[3]:
            assert monotonic() < ends
        for child in old:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        while array("d", times.read_bytes())[busy] == inf:
            assert monotonic() < ends
        held.close()


def test_a_worker_that_dies_is_replaced_though_a_file_is_bad(model, tmp_path):
    shutil.copy(model, tmp_path / "good.onnx")
    shutil.copy(model, tmp_path / "bad.onnx")
    with Process(tmp_path, "--workers", "2") as server:
        (tmp_path / "bad.onnx").write_bytes(b"no model at all")
        for child in workers_of(server):
            os.kill(child, signal.SIGKILL)
        url = f"http://127.0.0.1:{server.port}/v2/models"
        ready = {name: web.get(f"{url}/{name}/ready").status_code for name in ("good", "bad")}
        server.process.send_signal(signal.SIGTERM)
        code, _, err = server.end()
    assert ready == {"good": 200, "bad": 404}
    assert (code, "Traceback" in err) == (0, False)


def test_where_no_worker_can_be_replaced_that_is_said_and_ends_at_once(model, tmp_path):
    only = shutil.copy(model, tmp_path / "only.onnx")
    with Process(only, "--workers", "2", "--grace", "60") as server:
        only.write_bytes(b"no model at all")
        for child in workers_of(server):
            os.kill(child, signal.SIGKILL)
        next(line for line in server.process.stderr if "does not start again" in line)
        with socket.create_connection(("127.0.0.1", server.port), timeout=60):
            server.process.send_signal(signal.SIGTERM)
            code, _, err = server.end()
    assert (code, "Traceback" in err) == (0, False)


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_connections_that_no_worker_has_room_for_wait(model):
    code = (
        "import resource, sys, flatfold.cli\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "sys.exit(flatfold.cli.main(sys.argv[1:]))"
    )
    with Process(model, "--workers", "2", start=("-c", code)) as server:
        connections = ask_on_many(server, 150)
        for child in workers_of(server):
            ends = monotonic() + 20
            while len(list(Path(f"/proc/{child}/fd").iterdir())) < 63:
                assert monotonic() < ends
        statuses = []
        for each in connections:
            statuses.append(each.getresponse().status)
            each.close()
    assert statuses == [200] * 150


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_loses_no_request(model, number):
    with Process(model, "--workers", "2") as server:
        held = hold(server), hold(server)
        os.killpg(server.process.pid, number)
        until_nobody_listens(server)
        statuses = [finish(each) for each in held]
        code, _, err = server.end()
    assert statuses == [200, 200]
    assert (code, "Traceback" in err, "another" in err) == (0, False, False)


@pytest.mark.skipif(sys.platform != "linux", reason="forked there alone")
def test_a_stop_loses_nothing_where_what_the_workers_were_forked_from_is_gone(model):
    with Process(model, "--workers", "2") as server:
        forked_from = os.popen(f"pgrep -P {server.process.pid} -f forkserver").read()  # noqa: S605
        os.kill(int(forked_from), signal.SIGKILL)
        held = hold(server)
        server.process.send_signal(signal.SIGTERM)
        until_nobody_listens(server)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(1)
        assert finish(held) == 200
        code, _, err = server.end()
    assert (code, "Traceback" in err) == (0, False)


def test_a_second_signal_to_the_whole_group_ends_it_at_once_and_leaves_nothing(model, tmp_path):
    with Process(model, "--workers", "2", TMPDIR=str(tmp_path)) as server:
        (folder,) = tmp_path.glob("flatfold-*")
        handle = os.open(folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):  # so systemd asks whether it may clear it away
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        held = hold(server)
        os.killpg(server.process.pid, signal.SIGTERM)
        until_nobody_listens(server)
        os.killpg(server.process.pid, signal.SIGTERM)
        code, _, _ = server.end()
        held.close()
    assert code == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("length", [75, 76, 200])
def test_the_folder_for_temporary_files_may_have_a_long_path(model, length):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        long = Path(folder) / ("x" * (length - len(folder) - 1))
        long.mkdir()
        with Process(model, "--workers", "2", TMPDIR=str(long)) as server:
            ready = web.get(f"http://127.0.0.1:{server.port}/v2/health/ready")
            server.process.send_signal(signal.SIGTERM)
            code, _, _ = server.end()
        left = list(long.iterdir())
    assert (ready.status_code, code, left) == (200, 0, [])


def test_a_signal_before_the_workers_are_up_ends_it_well(model):
    code = (
        "import asyncio, signal, sys, flatfold.cli, service.worker\n"
        "sent = []\n"
        "async def started(self):\n"
        "    if not sent: sent.append(signal.raise_signal(signal.SIGTERM))\n"
        "    await asyncio.Event().wait()\n"
        "service.worker.Worker.started = started\n"
        "sys.exit(flatfold.cli.main(sys.argv[1:]))"
    )
    words = (sys.executable, "-c", code, "serve", str(model), "--port", "0", "--workers", "2")
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_runs_now_is_told_of_all_workers_whoever_is_asked(model):
    def in_flight():
        scraped.request("GET", "/metrics")
        text = scraped.getresponse().read().decode()
        return float(re.search(r"^flatfold_requests_in_flight (.*)$", text, re.MULTILINE)[1])

    def until(count):
        ends = monotonic() + 20
        while (seen := in_flight()) != count:
            assert monotonic() < ends, seen

    with Process(model, "--workers", "2") as server:
        scraped = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        until(1)  # the scrape itself
        held = hold(server)
        until(2)
        held.close()
        until(1)
        children = workers_of(server)
        here = hold(server), hold(server)
        until(3)
        for child in children:
            os.kill(child, signal.SIGKILL)
        for _ in children:
            next(line for line in server.process.stderr if "starting another" in line)
        scraped.close()
        until(1)  # of the new workers; the old ones' requests are gone
        for each in (*here, scraped):
            each.close()


def test_a_worker_that_cannot_start_is_one_line(tmp_path):
    server = Process(tmp_path / "nowhere.onnx", "--workers", "2")
    code, out, err = server.end()
    assert (code, out) == (1, "")
    assert "nowhere.onnx" in err.splitlines()[-1]
    assert "Traceback" not in err
