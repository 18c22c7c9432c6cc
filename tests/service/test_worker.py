import asyncio
import os
import signal
import socket
import sys
from dataclasses import replace
from multiprocessing import forkserver

import pytest

from flatfold.contract.errors import FlatfoldError
from service import forking, worker
from service.config import Settings
from service.orders import Orders
from service.shared import SHARED_FOLDER
from service.worker import Worker
from service.worker_process import work

from .onnx_models import picture_classifier
from .repositories import repository


@pytest.fixture
def settings(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv(SHARED_FOLDER, str(tmp_path / "shared"))
    model = picture_classifier(tmp_path / "tiny.onnx")
    return Settings(models=(str(model),), workers=2, threads=1)


def test_a_slow_start_is_waited_for_and_told(settings, monkeypatch, caplog):
    monkeypatch.setattr(worker, "SLOW_START", 0.01)

    async def scenario():
        slow = Worker(settings)
        try:
            return await slow.started()
        finally:
            slow.kill()
            assert await slow.ended(60) == -signal.SIGKILL

    assert asyncio.run(scenario()) == "tiny"
    assert "is still starting after" in caplog.text


def test_ctrl_c_while_it_starts_is_left_to_the_parent(settings):
    async def scenario():
        starting = Worker(settings)
        os.kill(starting.pid, signal.SIGINT)
        try:
            return await starting.started()
        finally:
            starting.kill()
            await starting.ended(60)

    assert asyncio.run(scenario()) == "tiny"


def test_a_worker_that_cannot_start_leaves_no_gauges(settings, tmp_path):
    async def scenario():
        failing = Worker(replace(settings, models=("nowhere.onnx",)))
        with pytest.raises(FlatfoldError, match=r"nowhere\.onnx"):
            await failing.started()
        await failing.ended(60)

    asyncio.run(scenario())
    assert not list((tmp_path / "shared").glob("*.db"))


@pytest.mark.skipif(sys.platform != "linux", reason="forked there alone")
def test_where_no_process_can_be_forked_that_is_said(settings, monkeypatch):
    def full(*_):
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(forkserver, "read_signed", full)
    with pytest.raises(FlatfoldError, match="could not be started: unexpected EOF"):
        Worker(settings)


def test_a_worker_that_starts_late_never_serves_what_was_unloaded(settings, tmp_path):
    other = picture_classifier(tmp_path / "other.onnx", name="other")

    async def scenario():
        models = repository(other)
        await models.open()
        await Orders(tmp_path / "shared", models, "1").unload("other")
        late = Worker(replace(settings, models=(*settings.models, str(other))))
        try:
            return await late.started()
        finally:
            late.kill()
            await late.ended(60)

    assert asyncio.run(scenario()) == "tiny"


def test_a_worker_that_was_replaced_says_of_the_server_that_it_is_ready(settings):
    async def scenario():
        leaving = Worker(settings)
        await leaving.started()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert leaving.give(theirs)
            leaving.finish(replaced=True)
            theirs.close()
            head = b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n"
            reader, writer = await asyncio.open_connection(sock=ours)
            answers = []
            while True:  # until it says that it ends
                writer.write(head)
                answers.append(await reader.readuntil(b'{"ready":true}'))
                if b"connection: close" in answers[-1]:
                    break
        assert await leaving.ended(60) == 0

    asyncio.run(scenario())


def test_a_worker_whose_parent_dies_before_it_hears_of_it_ends(settings):
    line, theirs = socket.socketpair()
    news, told = socket.socketpair()
    process = forking.context().Process(target=work, args=(settings, theirs, told))
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
