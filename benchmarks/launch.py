"""A server as a process group: started, waited for, weighed, stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

POLL = 0.005  # seconds between two tries while a server starts
LOG_TAIL = 800


class LaunchError(RuntimeError):
    """A server did not start, or gave a wrong answer."""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def post(
    port: int, path: str, body: bytes, headers: Mapping[str, str], *, timeout: float = 10.0
) -> tuple[int, bytes]:
    """Send one POST on a connection of its own; return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def stop_on_sigterm() -> None:
    """Make SIGTERM end this process like an exception, so that the servers it started end too."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


class Server:
    """A running server; use it as a context manager.

    Args:
        command: what starts it.
        environment: variables on top of this process's.
        port: where it will listen.
        log: file for its output.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], port: int, log: Path
    ) -> None:
        self.port = port
        self._log = log
        self._started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def wait_ready(
        self, path: str, body: bytes, headers: Mapping[str, str], wanted: bytes, *, limit: float
    ) -> float:
        """Ask until the first right answer; return seconds since the process was started.

        Raises:
            LaunchError: it ended, was not ready in time, or answered something else.
        """
        answer = b""
        while time.perf_counter() - self._started < limit:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, answer = post(self.port, path, body, headers)
                # JSON with and without spaces after its colons is the same answer.
                if status == 200 and wanted in answer.replace(b'": ', b'":'):
                    return time.perf_counter() - self._started
            time.sleep(POLL)
        raise LaunchError(
            f"no right answer on {path} within {limit:.0f} s (exit code "
            f"{self._process.poll()}): answered {answer[:200]!r}; log: {self._tail()}"
        )

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-LOG_TAIL:]

    def memory(self) -> dict[str, float]:
        """Return MB of all its processes: resident (rss) and with shared pages divided (pss)."""
        total = {"rss": 0.0, "pss": 0.0}
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    key, _, value = line.partition(":")
                    if key.lower() in total:
                        total[key.lower()] += int(value.split()[0]) / 1000 * 1.024
        return total

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self, limit: float) -> int:
        """Return the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after `limit` seconds.
        """
        return self._process.wait(limit)

    def stop(self, *, limit: float = 10.0) -> int | None:
        """End the whole group, first politely; return the exit code."""
        everyone = descendants(self.pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        # A framework may put its workers into groups of their own.
        for pid in everyone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return self._process.returncode


def descendants(pid: int) -> list[int]:
    """Return `pid` and the processes below it."""
    found = [pid]
    for current in found:
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{current}/task").glob("*/children"):
                found.extend(int(child) for child in children.read_text().split())
    return found
