"""The image's figures for docs/docker.md: size, first answer, idle memory.

    python benchmarks/container.py [IMAGE] [BASE]

Each run makes a fresh container, read-only and without capabilities, on this machine's network,
and asks it to classify one picture until it answers. Prints the median and the range.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import platform
import socket
import subprocess
import time
from statistics import median

from PIL import Image

RUNS = 7
NAME = "flatfold-figures"


def docker(*arguments: str) -> str:
    try:
        done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"docker cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"docker {' '.join(arguments)}: {error.stderr.strip()}") from error
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, picture: bytes) -> None:
    """Classify one picture, as soon as somebody listens."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/v1/classify", picture, {"Content-Type": "image/png"})
            answer = connection.getresponse()
            body = answer.read()
        except OSError:
            # Asking without a pause would take a core from the server that is starting.
            time.sleep(0.005)
            continue
        finally:
            connection.close()
        assert answer.status == 200, body
        return


def kilobytes(text: str, name: str) -> float:
    """Read one line of /proc/PID/status or smaps_rollup; return MB."""
    return next(int(line.split()[1]) for line in text.splitlines() if name in line) * 1.024e-3


def run(image: str, picture: bytes) -> tuple[float, float, float, float, float]:
    """Return seconds from `docker run` and from its end, MB of the group, RSS and PSS."""
    port = free_port()
    options = ["--network=host", "--read-only", "--cap-drop=ALL", "--memory=512m"]
    began = time.monotonic()
    docker("run", "-d", "--name", NAME, *options, "-e", f"FLATFOLD_PORT={port}", image)
    running = time.monotonic()
    try:
        ask(port, picture)
        answered = time.monotonic()
        usage = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", NAME).split("/")[0]
        status = docker("exec", NAME, "cat", "/proc/1/status")
        rollup = docker("exec", NAME, "cat", "/proc/1/smaps_rollup")
    finally:
        docker("rm", "--force", NAME)
    group = float(usage.strip().removesuffix("MiB")) * 1.048576
    memory = group, kilobytes(status, "VmRSS:"), kilobytes(rollup, "Pss:")
    return answered - began, answered - running, *memory


def size(image: str) -> float:
    return float(json.loads(docker("image", "inspect", image))[0]["Size"]) / 1e6


def show(what: str, values: tuple[float, ...], unit: str, digits: int) -> None:
    low, middle, high = (round(f(values), digits) for f in (min, median, max))
    print(f"{what}: {middle} {unit} ({low} to {high}, {len(values)} runs)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", nargs="?", default="flatfold")
    parser.add_argument("base", nargs="?", default="python:3.11-slim-bookworm")
    args = parser.parse_args()
    image, base = args.image, args.base
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 50).convert("RGB").save(buffer, "PNG")
    engine = docker("info", "--format", "{{.ServerVersion}}, storage {{.Driver}}, {{.NCPU}} cores")
    print(f"Docker {engine.strip()}, {platform.machine()}, Linux {platform.release()}")
    print(f"image: {size(image):.0f} MB, {size(image) - size(base):.0f} MB above {base}")
    whole, started, group, resident, share = zip(
        *(run(image, buffer.getvalue()) for _ in range(RUNS)), strict=True
    )
    show("first answer after docker run", whole, "s", 2)
    show("first answer after docker run returned", started, "s", 2)
    show("idle after one answer, control group without page cache (docker stats)", group, "MB", 0)
    show("idle after one answer, RSS of the server, shared libraries in full", resident, "MB", 0)
    show("idle after one answer, PSS of the server", share, "MB", 0)


if __name__ == "__main__":
    main()
