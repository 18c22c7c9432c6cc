import subprocess
import sys
from types import SimpleNamespace

import pytest

from service.metrics import Metrics
from service.neighbours import Neighbours
from service.shared import SHARED_FOLDER


class NoModels:
    def all(self):
        return []


class OneModel:
    def all(self):
        return [SimpleNamespace(model=SimpleNamespace(name="m"), queued=3)]


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """The folder of several workers; this process is one of them."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # it is set by the metrics
    monkeypatch.setenv(SHARED_FOLDER, str(tmp_path))
    return tmp_path


def test_a_file_that_a_worker_is_just_creating_is_passed_over(shared):
    (shared / "counter_1.db").touch()
    assert b"flatfold_requests_in_flight 2.0" in Metrics().exposition(NoModels(), 2)


@pytest.mark.skipif(sys.platform != "linux", reason="reserves room there")
def test_a_disk_that_is_full_later_ends_no_worker(shared):
    metrics = Metrics()
    metrics.request("/a", 200, 0.1)
    metrics.exposition(OneModel(), 1)
    Neighbours(shared)
    files = [file.stat() for file in shared.iterdir()]
    assert len(files) == 4
    assert all(file.st_blocks * 512 >= file.st_size for file in files)  # not a hole in them


def test_workers_add_up_in_the_folder_that_they_share(shared):
    for route in ("/a", "/a", "/b"):
        Metrics().request(route, 200, 0.1)
    text = Metrics().exposition(NoModels(), 2)
    assert b'flatfold_requests_total{route="/a",status="200"} 2.0' in text
    assert b'flatfold_requests_total{route="/b",status="200"} 1.0' in text


def test_what_was_not_timed_is_counted_and_no_latency():
    metrics = Metrics()
    metrics.request("unread", 400)
    metrics.request("/a", 200, 0.1)
    text = metrics.exposition(NoModels(), 0)
    assert b'flatfold_requests_total{route="unread",status="400"} 1.0' in text
    assert b'flatfold_request_seconds_count{route="/a"} 1.0' in text
    assert b'flatfold_request_seconds_count{route="unread"}' not in text


def test_of_a_model_that_is_gone_nothing_waits():
    metrics = Metrics()
    assert b'flatfold_queue_rows{model="m"} 3.0' in metrics.exposition(OneModel(), 0)
    assert b'flatfold_queue_rows{model="m"} 0.0' in metrics.exposition(NoModels(), 0)


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"])
@pytest.mark.parametrize("there", [True, False])
def test_another_programs_folder_is_left_alone(tmp_path, variable, there):
    folder = tmp_path / "theirs"
    if there:
        folder.mkdir()
    code = (
        "from service.metrics import Metrics\n"
        "Metrics().request('/a', 200, 0.1)\n"
        "print(__import__('prometheus_client').values.ValueClass.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={variable: str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("MutexValue", 0)
    assert folder.exists() == there
    assert not list(tmp_path.glob("theirs/*"))
