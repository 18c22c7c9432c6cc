"""Running the application in this process: state, uvicorn, and the models around its life."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from flatfold.contract.errors import FlatfoldError
from service.app import build_app
from service.graceful import GracefulServer
from service.listening import BACKLOG, announce, bind
from service.memory import give_back
from service.orders import Orders
from service.protocol import PatientProtocol
from service.repeating import repeat
from service.shared import shared_folder
from service.v2.shared_statistics import SharedStatistics
from service.watch import Watcher

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterator

    from service.config import Settings
    from service.state import State

    Started = Callable[[asyncio.AbstractEventLoop, str], None]

GAUGED_EVERY = 1.0  # seconds
WIDENED_EVERY = 1.0  # seconds, the first of them for all processes to start


def serve(settings: Settings) -> int:
    """Serve in this process until a signal; return the exit code.

    Raises:
        FlatfoldError: the port is taken, or a model cannot be served.
    """
    listener = bind(settings.host, settings.port)
    run_server(make_server(settings), [listener], lambda _, names: announce(listener, names))
    return 0


def make_server(settings: Settings) -> GracefulServer:
    """Return a server that is not running yet.

    Raises:
        FlatfoldError: a setting does not fit.
    """
    app, state = build_app(settings)
    PatientProtocol.header_timeout = settings.header_timeout
    PatientProtocol.on_refused = partial(state.metrics.request, "unread")
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        lifespan="off",
        ws="none",
        access_log=False,
        # The client's address is never used, so that nothing is to be read from its headers.
        proxy_headers=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]  # goes to call_later
    )
    return GracefulServer(config, state)


def run_server(
    server: GracefulServer,
    listeners: list[socket.socket],
    started: Started,
    *,
    tolerant: bool = False,
) -> None:
    """Load the models, serve until a signal, and let everything end that began.

    Args:
        server: from `make_server`.
        listeners: sockets to accept from; none where connections are handed over.
        started: called with the loop and the models' names once requests are answered.
        tolerant: models that cannot be served are left out, as long as one can.

    Raises:
        FlatfoldError: a model cannot be served, or none where `tolerant`.
    """
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_run(server, listeners, started, tolerant=tolerant))


def _background(state: State) -> Iterator[Coroutine[None, None, None]]:
    """Yield what goes on beside the requests: following the model folder, and other workers."""
    if state.settings.watch:
        yield Watcher(state.repository).run(state.settings.watch)
    if state.orders is not None and (folder := shared_folder()):
        yield state.orders.follow()
        state.statistics = SharedStatistics(folder, state.repository)
        yield state.statistics.follow()
        yield _gauge(state)
        yield _widen(state)


async def _gauge(state: State) -> None:
    """Keep this worker's gauges up to date, for whichever worker is scraped."""

    async def gauge() -> None:
        state.metrics.gauge(state.repository, state.in_flight)

    await repeat(gauge, GAUGED_EVERY, "telling this worker's gauges")


async def _widen(state: State) -> None:
    """Let every model that has come into service take all cores while other processes are idle."""

    async def widen() -> None:
        for served in state.repository.all():
            await asyncio.to_thread(served.model.widen)

    await asyncio.sleep(WIDENED_EVERY)
    await repeat(widen, WIDENED_EVERY, "letting models take all cores")


async def _run(
    server: GracefulServer, listeners: list[socket.socket], started: Started, *, tolerant: bool
) -> None:
    state = server.state
    if state.settings.workers > 1 and (folder := shared_folder()):
        state.orders = Orders(folder, state.repository)
    await state.repository.open(tolerant=tolerant)
    if not state.repository.ready:
        raise FlatfoldError("none of the model files can be served; the log says why")
    if state.orders is not None:  # what was unloaded stays so
        await state.orders.catch_up()
    give_back()
    state.ready = True
    names = ", ".join(sorted({served.model.name for served in state.repository.all()}))
    loop = asyncio.get_running_loop()
    server.on_started = lambda: started(loop, names)
    background = [asyncio.create_task(each) for each in _background(state)]
    try:
        await server.serve(sockets=listeners)
    finally:
        state.ready = False
        for task in background:
            task.cancel()
        await state.repository.drain()
