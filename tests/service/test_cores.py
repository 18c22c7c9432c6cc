import importlib.util
import sys
from types import SimpleNamespace

import pytest

from service import cores
from service.cores import worker_count

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="one process serves there")


@pytest.fixture
def onnxruntime(tmp_path, monkeypatch):
    """A folder that stands for the installed onnxruntime's."""
    (tmp_path / "capi").mkdir()
    (tmp_path / "capi/libonnxruntime_providers_shared.so").touch()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(cores, "_MEMORY", tmp_path / "memory.max")
    return tmp_path / "capi"


@pytest.mark.parametrize(("usable", "wanted"), [(1, 1), (2, 2), (4, 4), (64, 4)])
def test_a_process_a_core_up_to_four(onnxruntime, monkeypatch, usable, wanted):
    monkeypatch.setattr(cores, "usable_cores", lambda: usable)
    assert [worker_count("auto"), worker_count("cpu")] == [wanted, wanted]


@pytest.mark.parametrize(
    ("limit", "wanted"), [("100000000", 1), (str(600 << 20), 2), (str(4 << 30), 4), ("max", 4)]
)
def test_fewer_processes_in_a_container_of_little_memory(onnxruntime, monkeypatch, limit, wanted):
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    cores._MEMORY.write_text(f"{limit}\n")
    assert worker_count("auto") == wanted


def test_fewer_processes_in_a_container_of_little_memory_for_its_models(
    onnxruntime, monkeypatch, tmp_path
):
    monkeypatch.setattr(cores, "usable_cores", lambda: 8)
    cores._MEMORY.write_text(f"{1 << 30}\n")
    file = tmp_path / "models" / "large" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    with file.open("wb") as large:
        large.truncate(80 << 20)
    assert (
        worker_count("auto", [str(file)]) == worker_count("auto", [str(tmp_path / "models")]) == 2
    )
    with file.with_name("model.onnx.data").open("wb") as weights:
        weights.truncate(100 << 20)
    assert (
        worker_count("auto", [str(file)]) == worker_count("auto", [str(tmp_path / "models")]) == 1
    )
    assert worker_count("auto", [str(tmp_path / "nowhere" / "x.onnx")]) == 4


@pytest.mark.parametrize("library", ["cuda", "tensorrt", "openvino"])
def test_one_process_for_whatever_has_cores_of_its_own(onnxruntime, monkeypatch, library):
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    assert worker_count(library) == 1
    (onnxruntime / f"libonnxruntime_providers_{library}.so").touch()
    assert [worker_count("auto"), worker_count("cpu")] == [1, 2]


def test_one_process_where_there_is_no_place_to_share(onnxruntime, monkeypatch, caplog):
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    monkeypatch.setattr(cores, "why_no_folder", lambda: "there is none")
    caplog.set_level("INFO")
    assert worker_count("auto") == 1
    assert "several need a folder for temporary files: there is none" in caplog.text
