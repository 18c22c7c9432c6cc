"""What a server process of several does: serve the connections that its parent hands it."""

from __future__ import annotations

import atexit
import contextlib
import signal
import socket
from typing import TYPE_CHECKING, Any

from flatfold.contract.errors import FlatfoldError
from service import logs
from service.dealing import PAUSE
from service.descriptors import is_room_for
from service.news import END, FAILED, LEAVING, READY, REPLACED
from service.server import make_server, run_server

if TYPE_CHECKING:
    import asyncio

    from service.config import Settings


def work(
    settings: Settings, line: socket.socket, news: socket.socket, *, tolerant: bool = False
) -> None:
    """Be a worker: serve what comes over `line`, and say over `news` how it goes.

    Args:
        settings: of the server.
        line: brings connections; its end means to finish.
        news: takes what the parent should know.
        tolerant: models that cannot be served are left out.
    """
    logs.configure(settings.log_level, settings.log_format)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl+C is the parent's to handle

    def say(kind: bytes, text: str = "") -> None:
        with contextlib.suppress(OSError):  # the parent is gone, as the line's end will say
            news.sendall(kind + b" " * bool(text) + text.encode() + END)

    def connected(loop: asyncio.AbstractEventLoop, names: str) -> None:
        # The parent has blocked them until there is a handler: from here on there is one.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        say(READY, names)
        line.setblocking(False)
        loop.add_reader(line, receive, loop)

    def receive(loop: asyncio.AbstractEventLoop) -> None:
        if not is_room_for(line.fileno()):  # a connection would be lost on its way: it waits
            loop.remove_reader(line)
            loop.call_later(PAUSE, loop.add_reader, line, receive, loop)
            return
        with contextlib.suppress(BlockingIOError):
            message, handles, _, _ = socket.recv_fds(line, 1, 1)
            if message == REPLACED:
                server.state.replaced = True
            if not message:  # the parent has no more connections for us, or is gone
                loop.remove_reader(line)
                server.stop()
            for handle in handles:
                taken: Any = socket.socket(fileno=handle)
                taken.setblocking(False)
                server.take(loop, taken)

    try:
        server = make_server(settings)
        server.signals = (signal.SIGTERM,)
        # Connections may be on their way here: the parent sends the last before it ends the line.
        server.on_signal = lambda: say(LEAVING)
        run_server(server, [], connected, tolerant=tolerant)
    except FlatfoldError as error:
        say(FAILED, str(error))
    finally:  # a forked process ends without: OpenTelemetry sends its last spans there
        atexit._run_exitfuncs()  # noqa: SLF001 (no public name)
