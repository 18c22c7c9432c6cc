"""A real server in a thread: uvicorn on a free port, with onnxruntime behind it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from service.app import build_app
from service.config import Settings
from service.listening import bind
from service.protocol import PatientProtocol

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from service.state import State

START_SECONDS = 60


@dataclass
class Running:
    """A server that answers."""

    port: int
    state: State
    loop: asyncio.AbstractEventLoop

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def call(self, coroutine: Coroutine):
        """Run a coroutine in the server's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(START_SECONDS)


@contextlib.contextmanager
def running(*models, **settings) -> Iterator[Running]:
    """Serve `models` for the time of the block; `settings` are those of `Settings`."""
    options = {"threads": 1, "host": "127.0.0.1", "port": 0, **settings}
    app, state = build_app(Settings(models=tuple(map(str, models)), **options))
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        app, http=PatientProtocol, ws="none", lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    started = threading.Event()
    loops = []

    async def serve() -> None:
        await state.repository.open()
        state.ready = True
        loops.append(asyncio.get_running_loop())
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
        started.set()
        await task
        await state.repository.drain()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(START_SECONDS)
        yield Running(listener.getsockname()[1], state, loops[0])
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)
        listener.close()
