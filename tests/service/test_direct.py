import asyncio
import gc
import threading
import weakref
from time import monotonic
from types import SimpleNamespace

import numpy as np
import pytest

from service.direct import DirectRunner
from service.errors import DeadlineExceededError, InternalError, NotReadyError, OverloadedError
from service.model import Model
from tests.service import onnx_models

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Gated:
    """A model that runs only once the test lets it, and counts its runs."""

    name = "gated"

    def __init__(self):
        self.open = threading.Event()
        self.started = threading.Event()
        self.runs = 0

    def run(self, feeds, outputs):
        self.started.set()
        assert self.open.wait(60)
        self.runs += 1
        return feeds


async def started(model):
    await asyncio.to_thread(model.started.wait, 10)


async def test_a_request_gets_its_outputs(tmp_path):
    runner = DirectRunner(Model.load(onnx_models.adder(tmp_path / "m.onnx")), max_queue=1)
    feeds = {"a": np.array([1], np.float32), "b": np.array([2], np.float32)}
    assert (await runner.run(feeds, deadline=None)).arrays["total"].tolist() == [3]


async def test_a_full_queue_refuses_at_once():
    model = Gated()
    runner = DirectRunner(model, max_queue=1)
    first = asyncio.create_task(runner.run({}, deadline=None))
    await started(model)
    second = asyncio.create_task(runner.run({}, deadline=None))
    await asyncio.sleep(0)
    assert runner.queued == 1  # what is running does not wait
    with pytest.raises(OverloadedError, match=r"1 requests are waiting.*--max-queue"):
        await runner.run({}, deadline=None)
    second.cancel()
    await asyncio.wait([second])
    assert runner.queued == 0
    model.open.set()
    assert (await first).arrays == {}
    assert (await runner.run({}, deadline=None)).arrays == {}


async def test_a_request_that_finds_no_thread_takes_no_place_in_the_queue(tmp_path, no_thread):
    ran = []
    model = Model.load(onnx_models.adder(tmp_path / "m.onnx"))
    runner = DirectRunner(model, max_queue=1, on_batch=lambda *run: ran.append(run))
    feeds = {name: np.ones(1, np.float32) for name in "ab"}
    with no_thread():
        for _ in range(3):
            with pytest.raises(NotReadyError, match="no thread to run the model in"):
                await runner.run(feeds, deadline=None)
    assert (await runner.run(feeds, deadline=None)).arrays["total"].tolist() == [2]
    assert len(ran) == 1  # what was refused is not run later


async def test_a_late_or_cancelled_request_never_runs():
    model = Gated()
    runner = DirectRunner(model, max_queue=9)
    first = asyncio.create_task(runner.run({}, deadline=None))
    await started(model)
    left = asyncio.create_task(runner.run({}, deadline=None))
    await asyncio.sleep(0)
    left.cancel()
    with pytest.raises(DeadlineExceededError):
        await runner.run({}, deadline=monotonic() + 0.01)
    with pytest.raises(DeadlineExceededError, match="before the request was read"):
        await runner.run({}, deadline=monotonic())
    model.open.set()
    await first
    assert (await runner.run({}, deadline=None)).arrays == {}
    assert model.runs == 2


async def test_a_cancelled_request_leaves_its_tensors_at_once():
    model = Gated()
    runner = DirectRunner(model, max_queue=9)
    first = asyncio.create_task(runner.run({}, deadline=None))
    await started(model)
    tensor = np.ones(1000)
    kept = weakref.ref(tensor)
    left = asyncio.create_task(runner.run({"x": tensor}, deadline=None))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    del tensor, left
    gc.collect()
    assert kept() is None
    model.open.set()
    await first


async def test_a_runtime_that_throws_leaves_the_queue_usable():
    def fail(feeds, outputs):
        raise RuntimeError("broken")

    runner = DirectRunner(SimpleNamespace(name="m", run=fail), max_queue=1)
    for _ in range(3):
        with pytest.raises(InternalError, match="broken"):
            await runner.run({}, deadline=None)


async def test_tells_of_each_run_and_gives_its_seconds(tmp_path):
    seen = []
    model = Model.load(onnx_models.adder(tmp_path / "m.onnx"))
    runner = DirectRunner(model, max_queue=1, on_batch=lambda *run: seen.append(run))
    feeds = {name: np.ones(5, np.float32) for name in "ab"}
    ran = await runner.run(feeds, outputs=("total",), deadline=None)
    assert list(ran.arrays) == ["total"]
    ((count, seconds, wait),) = seen
    assert (count, seconds) == (1, ran.seconds)
    assert wait >= 0
