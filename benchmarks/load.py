"""Load by `wrk`: a Lua script for the bodies, and its summary read back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.bodies import TENSOR_JSON

if TYPE_CHECKING:
    from pathlib import Path

MARK = "BENCH "
CONTENT_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "tensor": "application/octet-stream",
}

# All requests are formatted once; sending one is then a table look-up. Latencies are microseconds.
_SCRIPT = """
local paths = {%(paths)s}
local headers = {%(headers)s}
local requests = {}
local turn = 0
function init(args)
  for i, path in ipairs(paths) do
    local file = io.open(path, "rb")
    requests[i] = wrk.format("POST", "%(path)s", headers, file:read("*a"))
    file:close()
  end
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
function done(summary, latency, all)
  local e = summary.errors
  io.write(string.format('BENCH {"requests":%%d,"microseconds":%%d,"p50":%%d,"p99":%%d,' ..
    '"longest":%%d,"connect":%%d,"read":%%d,"write":%%d,"status":%%d,"timeout":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency.max, e.connect, e.read, e.write, e.status, e.timeout))
end
"""


class LoadError(RuntimeError):
    """wrk is missing, or did not say what it measured."""


@dataclass(frozen=True)
class Measured:
    """One cell of one round.

    Attributes:
        rate: good answers a second.
        p50: median latency, ms.
        p99: 99th percentile of the latency, ms.
        longest: ms.
        errors: answers that were not 2xx or 3xx, and connections that failed.
    """

    rate: float
    p50: float
    p99: float
    longest: float
    errors: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def script(kind: str, path: str, bodies: list[Path], extra: dict[str, str] | None = None) -> str:
    """Return the Lua that sends `bodies` in turn to `path`."""
    headers = {"Content-Type": CONTENT_TYPES[kind], **(extra or {})}
    if kind == "tensor":
        headers["Inference-Header-Content-Length"] = str(len(TENSOR_JSON))
    return _SCRIPT % {
        "paths": ", ".join(json.dumps(str(body)) for body in bodies),
        "headers": ", ".join(f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items()),
        "path": path,
    }


def parse(output: str) -> Measured:
    """Read the line that the script prints.

    Raises:
        LoadError: there is none.
    """
    found = re.search(f"^{MARK}(.*)$", output, re.MULTILINE)
    if found is None:
        raise LoadError(f"wrk printed no summary: {output[-500:]!r}")
    data = json.loads(found[1])
    errors = sum(data[key] for key in ("connect", "read", "write", "status", "timeout"))
    good = data["requests"] - data["status"]
    return Measured(
        rate=good / (data["microseconds"] / 1e6),
        p50=data["p50"] / 1e3,
        p99=data["p99"] / 1e3,
        longest=data["longest"] / 1e3,
        errors=errors,
    )


def drive(url: str, lua: Path, concurrency: int, seconds: float) -> Measured:
    """Keep `concurrency` connections busy for `seconds`, from one thread.

    Raises:
        LoadError: wrk is missing, failed or hung.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadError("wrk is not installed; Debian and Ubuntu: apt-get install wrk")
    command = [wrk, "-t1", f"-c{concurrency}", f"-d{round(seconds)}s", "--timeout", "10s"]
    try:
        done = subprocess.run(
            [*command, "-s", str(lua), url],
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"wrk did not end within {seconds + 30:.0f} s") from error
    if done.returncode:
        raise LoadError(f"wrk failed with {done.returncode}: {done.stderr.strip()}")
    return parse(done.stdout)
