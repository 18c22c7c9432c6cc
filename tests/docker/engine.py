"""A thin hold on the Docker command line: run the image hardened, ask, stop, remove.

A storage driver without layers (vfs) copies the whole image for each container, so the tests share
few of them: commands run beside a server that is there already, and a stopped one starts again.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGE = os.environ.get("FLATFOLD_IMAGE", "")
BASE = os.environ.get("FLATFOLD_BASE", "python:3.11-slim-bookworm")
# What docs/docker.md promises to be enough, under a user that the image has never heard of.
HARDENED = [
    "--network=host",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--memory=512m",
    "--user=12345:12345",
]
LISTENS_WITHIN_S = 60.0


def docker(*arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run one docker command to its end."""
    return subprocess.run(["docker", *arguments], input=data, capture_output=True, check=False)


def run_once(
    *arguments: str, options: Sequence[str] = (), data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a container with `flatfold ARGUMENTS` in the foreground, and remove it."""
    return docker("run", "--rm", "-i", *HARDENED, *options, IMAGE, *arguments, data=data)


def free_port() -> int:
    """Return a port that was free a moment ago: a container cannot hand back port 0's number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Served:
    """One detached container that serves on a port of this machine."""

    port: int = field(default_factory=free_port)
    name: str = field(default_factory=lambda: f"flatfold-test-{uuid.uuid4().hex[:12]}")

    def start(self, *arguments: str, options: Sequence[str] = HARDENED) -> None:
        """Start it; with no arguments, as `docker run IMAGE` does."""
        place = ["--name", self.name, "-e", f"FLATFOLD_PORT={self.port}"]
        done = docker("run", "-d", *place, *options, IMAGE, *arguments)
        assert done.returncode == 0, done.stderr.decode()

    def start_again(self) -> None:
        """Start it if it was stopped, and return when it is ready."""
        docker("start", self.name)
        self.wait_ready()

    def execute(
        self, *command: str, options: Sequence[str] = (), data: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command beside the server: same image, user, limits and read-only root."""
        return docker("exec", "-i", *options, self.name, *command, data=data)

    def shell(self, script: str) -> subprocess.CompletedProcess[bytes]:
        """Run a shell script beside the server."""
        return self.execute("/bin/sh", "-c", script)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one request on a connection of its own; return the status and the body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def first_answer(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request until somebody listens, or fail with the container's log."""
        deadline = time.monotonic() + LISTENS_WITHIN_S
        while time.monotonic() < deadline:
            try:
                return self.request(method, path, body, headers)
            except OSError:
                assert self.inspect()["State"]["Running"], self.log()
        raise AssertionError(f"nobody listens after {LISTENS_WITHIN_S} s:\n{self.log()}")

    def wait_ready(self) -> None:
        """Return when the service says that it is ready, or fail with its log."""
        status, _ = self.first_answer("GET", "/v2/health/ready")
        assert status == 200, self.log()

    def inspect(self) -> dict[str, Any]:
        """Return what `docker inspect` knows."""
        found: list[dict[str, Any]] = json.loads(docker("inspect", self.name).stdout)
        return found[0]

    def memory(self) -> str:
        """Return what the control group and the first process (RSS) hold, as one line."""
        usage = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", self.name).stdout
        status = self.execute("cat", "/proc/1/status").stdout.decode()
        resident = next(line.split()[1] for line in status.splitlines() if "VmRSS" in line)
        group = usage.decode().split("/")[0].strip()
        return f"{group} in its control group, {int(resident) * 1.024e-3:.0f} MB resident"

    def log(self) -> str:
        """Return everything that the container printed."""
        done = docker("logs", self.name)
        return (done.stdout + done.stderr).decode()

    def stop(self, seconds: int = 60) -> int:
        """Send SIGTERM as `docker stop` does, and return the exit code."""
        docker("stop", "--time", str(seconds), self.name)
        return int(self.inspect()["State"]["ExitCode"])

    def remove(self) -> None:
        """Remove the container, running or not."""
        docker("rm", "--force", self.name)
