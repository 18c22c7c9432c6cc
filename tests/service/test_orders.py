import asyncio
import errno
import os
import signal

import pytest

from service import orders
from service.errors import InternalError, ModelNotFoundError, NotReadyError
from service.model import ModelError
from service.orders import Orders
from service.shared import forget_worker
from tests import web
from tests.service import onnx_models
from tests.service.processes import Process, workers_of
from tests.service.repositories import gain, replace_file, repository

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def path(tmp_path):
    return onnx_models.picture_classifier(tmp_path / "models/m.onnx", gain=1)


async def worker(path, name):
    models = repository(path.parent)
    await models.open()
    return models, Orders(path.parents[1], models, name)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(orders, "POLL", 0.002)


async def test_an_order_is_done_by_every_worker_before_it_is_answered(path):
    one, orders_of_one = await worker(path, "1")
    two, orders_of_two = await worker(path, "2")
    following = asyncio.create_task(orders_of_two.follow())
    replace_file(onnx_models.picture_classifier, path, gain=2)
    await orders_of_one.load("m")
    assert (gain(one.get("m")), gain(two.get("m"))) == (2, 2)
    await orders_of_one.unload("m")
    assert not one.all()
    assert not two.all()
    await orders_of_one.load("m")
    assert gain(two.get("m")) == 2
    following.cancel()


async def test_a_bad_file_stops_at_the_first_worker(path, monkeypatch):
    monkeypatch.setattr(orders, "PATIENCE", 0.01)  # the second one follows later, by hand
    _, orders_of_one = await worker(path, "1")
    two, orders_of_two = await worker(path, "2")
    path.write_bytes(b"corrupt")
    with pytest.raises(ModelError):
        await orders_of_one.load("m")
    with pytest.raises(ModelNotFoundError):
        await orders_of_one.unload("none")
    await orders_of_two.catch_up()
    assert gain(two.get("m")) == 1


async def test_after_a_refusal_all_workers_serve_the_same_and_say_why(path):
    other = onnx_models.picture_classifier(path.parent / "v/1/model.onnx", gain=1)
    bad = onnx_models.picture_classifier(path.parent / "v/2/model.onnx", gain=2)
    one, orders_of_one = await worker(path, "1")
    two, orders_of_two = await worker(path, "2")
    following = asyncio.create_task(orders_of_two.follow())
    await orders_of_one.unload("v")
    replace_file(onnx_models.picture_classifier, other, gain=3)
    bad.write_bytes(b"corrupt")
    with pytest.raises(ModelError, match="not a model that onnxruntime reads"):
        await orders_of_one.load("v")
    following.cancel()
    assert [gain(models.get("v")) for models in (one, two)] == [3, 3]
    assert one.index() == two.index()
    assert "not a model that onnxruntime reads" in two.index()[-1].reason
    replace_file(onnx_models.picture_classifier, bad, gain=4)
    for models in (one, two):
        await models.refresh()  # as with --watch: the refused file is due in both
        assert gain(models.get("v")) == 4


async def test_a_name_may_be_longer_than_a_files_once_it_is_escaped(path):
    long = path.rename(path.with_stem("я" * 100))
    models, orders_of_one = await worker(long, "1")
    await orders_of_one.unload(long.stem)
    assert not models.all()


async def test_a_worker_that_starts_late_loads_nothing_twice(path):
    _, orders_of_one = await worker(path, "1")
    await orders_of_one.load("m")
    models = repository(path.parent)
    late = Orders(path.parents[1], models, "late")
    await models.open()
    loaded = models.get("m")
    await late.catch_up()
    assert models.get("m") is loaded


async def test_a_worker_that_starts_late_catches_up(path):
    _, orders_of_one = await worker(path, "1")
    await orders_of_one.unload("m")
    late, orders_of_late = await worker(path, "late")
    await orders_of_late.catch_up()
    assert not late.all()


async def test_a_worker_that_does_not_follow_or_fails_is_told(path, monkeypatch):
    _, orders_of_one = await worker(path, "1")
    two, orders_of_two = await worker(path, "2")
    monkeypatch.setattr(orders, "PATIENCE", 0.01)
    with pytest.raises(NotReadyError, match="1 of 2 workers have done the load"):
        await orders_of_one.load("m")

    async def fail(name, refused):
        raise ModelError("no memory")

    monkeypatch.setattr(orders, "PATIENCE", 10)
    monkeypatch.setattr(two, "load", fail)
    following = asyncio.create_task(orders_of_two.follow())
    with pytest.raises(InternalError, match="a worker could not load 'm': no memory"):
        await orders_of_one.load("m")
    following.cancel()


async def test_trouble_with_the_folder_is_told_once_and_its_end_once(path, caplog):
    _, orders_of_one = await worker(path, "1")
    tries = []

    async def catch_up():
        tries.append(asyncio.get_running_loop().time())
        if len(tries) < 5:
            raise OSError(errno.EMFILE, "Too many open files")
        if len(tries) == 8:
            following.cancel()

    orders_of_one.catch_up = catch_up
    following = asyncio.create_task(orders_of_one.follow())
    with caplog.at_level("INFO", "service"), pytest.raises(asyncio.CancelledError):
        await following
    told = [(record.levelname, bool(record.exc_info)) for record in caplog.records]
    assert told == [("ERROR", False), ("INFO", False)]
    assert "orders" in caplog.messages[0]
    assert "Too many open files" in caplog.messages[0]


async def test_a_worker_that_leaves_is_none_of_those_that_serve(path, monkeypatch):
    _, orders_of_one = await worker(path, "1")
    leaving, orders_of_leaving = await worker(path, "2")
    successor, orders_of_successor = await worker(path, "3")
    monkeypatch.setattr(orders, "PATIENCE", 0.1)
    following = asyncio.create_task(orders_of_leaving.follow())
    with pytest.raises(NotReadyError, match="2 of 3 workers have done the unload"):
        await orders_of_one.unload("m")
    following.cancel()
    assert not leaving.all()
    await orders_of_successor.catch_up()
    assert not successor.all()


async def test_nobody_waits_for_a_worker_that_died(path):
    _, orders_of_one = await worker(path, "1")
    await worker(path, "2")
    forget_worker(path.parents[1], 2)
    await orders_of_one.unload("m")


def test_load_and_unload_reach_every_worker_of_a_real_server(path):
    key = {"Authorization": "Bearer secret"}
    with Process(path.parent, "--workers", "2", "--admin-keys", "secret") as server:
        url = f"http://127.0.0.1:{server.port}/v2"

        def ready():
            return [web.get(f"{url}/models/m/ready").status_code for _ in range(6)]

        def ask(verb):
            return web.post(f"{url}/repository/models/m/{verb}", headers=key)

        assert ready() == [200] * 6
        os.kill(workers_of(server)[0], signal.SIGKILL)
        next(line for line in server.process.stderr if "starting another" in line)
        assert ask("unload").status_code == 200
        assert ready() == [404] * 6  # each connection goes to the next worker
        assert ask("load").json() == {}
        assert ready() == [200] * 6
