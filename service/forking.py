"""How the processes of workers are made.

On Linux they are forked from one that has imported all that serving needs, but neither serves nor
has threads: workers share these pages, and start in a fraction of the time. Elsewhere system
libraries do not stand a fork, and each worker imports for itself. The process that they are forked
from is asked over a socket in the folder for temporary files, whose path may be too long for one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
from multiprocessing import forkserver, resource_tracker
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerContext, SpawnContext

# A socket's path may have 107 bytes; this one is /pymp-12345678/listener-12345678 in the folder.
_LONGEST = 107 - 32
NEEDED = ["service.worker_process"]


def context() -> ForkServerContext | SpawnContext:
    """Return what makes them."""
    too_long = len(os.fsencode(tempfile.gettempdir())) > _LONGEST
    # onnxruntime's telemetry has a thread, which the forked ones would lack.
    telemetry = os.environ.get("ORT_DISABLE_TELEMETRY") != "1"
    if sys.platform != "linux" or too_long or telemetry:
        return multiprocessing.get_context("spawn")
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(NEEDED)
    return forks


def begin() -> None:
    """Have what workers need imported from now on, beside what this process has to do first.

    Where that fails, whoever makes the first worker says why.
    """
    with contextlib.suppress(OSError):
        if context().get_start_method() == "forkserver":
            with without_signals():
                forkserver.ensure_running()


@contextlib.contextmanager
def without_signals() -> Iterator[None]:
    """Have a process that starts here hear no signal until it has said what to do about one.

    A terminal's Ctrl+C, and systemd's SIGTERM, go to all processes: one that imports its modules
    would show where, and what the workers are forked from would be gone.
    """
    resource_tracker.ensure_running()  # its own start lets signals through again
    blocked = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
