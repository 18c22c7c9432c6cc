import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import onnx
import pytest

from service.errors import ModelNotFoundError
from service.watch import Watcher
from tests import web
from tests.service import onnx_models
from tests.service.processes import Process
from tests.service.repositories import gain, replace_file, repository

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_follows_new_changed_and_removed_files_once_they_settle(tmp_path):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    watcher = Watcher(models)
    replace_file(onnx_models.picture_classifier, path, gain=2)
    onnx_models.adder(tmp_path / "new/1/model.onnx")
    await watcher.poll()
    assert gain(models.get("m")) == 1  # seen once: it may still be being written
    await watcher.poll()
    assert gain(models.get("m")) == 2
    assert models.get("new").model.version == "1"
    path.unlink()
    await watcher.poll()
    assert models.get("m")
    await watcher.poll()
    with pytest.raises(ModelNotFoundError):
        models.get("m")


async def test_tries_a_corrupt_file_once(tmp_path, caplog):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    path.write_bytes(b"half a file")
    watcher = Watcher(models)
    for _ in range(4):
        await watcher.poll()
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1
    assert gain(models.get("m")) == 1


async def test_tries_a_file_again_that_found_no_thread(tmp_path, no_thread):
    path = onnx_models.picture_classifier(tmp_path / "m.onnx")
    models = repository(tmp_path)
    await models.open()
    watcher = Watcher(models)
    replace_file(onnx_models.picture_classifier, path, gain=2)
    await watcher.poll()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # the old one has some
    with no_thread(), pytest.raises(RuntimeError, match="start new thread"):
        await watcher.poll()
    await watcher.poll()
    assert gain(models.get("m")) == 2


async def test_tries_a_file_again_when_its_weights_arrive_beside_it(tmp_path):
    path = onnx_models.lookup(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w", size_threshold=0)
    weights = (tmp_path / "w").rename(tmp_path / "away")
    onnx_models.adder(tmp_path / "other.onnx")
    models = repository(tmp_path)
    await models.open(tolerant=True)
    watcher = Watcher(models)
    for _ in range(3):
        await watcher.poll()
    assert [served.model.name for served in models.all()] == ["other"]
    weights.rename(tmp_path / "w")
    for _ in range(2):
        await watcher.poll()
    assert [served.model.name for served in models.all()] == ["m", "other"]


async def test_a_file_that_never_settles_holds_up_no_other(tmp_path):
    models = repository(tmp_path)
    await models.open(allow_empty=True)
    watcher = Watcher(models)
    onnx_models.adder(tmp_path / "m.onnx")
    for size in range(2):
        (tmp_path / "growing.onnx").write_bytes(bytes(size))
        await watcher.poll()
    assert [served.model.name for served in models.all()] == ["m"]
    assert [entry.reason for entry in models.index()] == ["not loaded", ""]


async def test_outlives_a_folder_that_is_gone_for_a_while(tmp_path):
    folder = tmp_path / "models"
    onnx_models.adder(folder / "m.onnx")
    models = repository(folder)
    await models.open()
    folder.rename(tmp_path / "away")
    running = asyncio.create_task(Watcher(models).run(interval=0.001))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    assert models.get("m")
    running.cancel()


def test_a_real_server_takes_up_a_new_file(tmp_path):
    onnx_models.adder(tmp_path / "m.onnx")
    with Process(tmp_path, "--watch", "0.02") as server:
        onnx_models.adder(tmp_path / "new.onnx")
        url = f"http://127.0.0.1:{server.port}/v2/models/new/ready"
        ends = time.monotonic() + 30
        while web.get(url).status_code != 200:
            assert time.monotonic() < ends
