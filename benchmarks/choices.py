"""Measure ways of running `flatfold serve` beside its defaults, and print them as a table.

    python -m benchmarks.choices [--rounds 3] [--seconds 3] [MODEL]

Each way of running `flatfold serve` is started anew in every round, in turn with the others, so
that a change of the machine's speed meets all of them. Figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import onnxruntime

from benchmarks.bodies import write_bodies
from benchmarks.launch import Server, free_port
from benchmarks.load import Measured, drive, script
from benchmarks.machine import commit, cpu

WAYS: dict[str, list[str]] = {
    "as it comes: a process a core": [],
    "one process, a thread a core": ["--workers", "1"],
    "one process, one thread": ["--workers", "1", "--threads", "1"],
    "two processes, one thread each": ["--workers", "2", "--threads", "1"],
    "two processes, two threads each": ["--workers", "2", "--threads", "2"],
    "no batches": ["--max-batch", "1"],
    "batches of up to 8": ["--max-batch", "8"],
    "with CORS": ["--cors", "http://localhost"],
    "every request logged": ["--access-log", "all"],
}
CONCURRENCIES = (1, 8, 32)


def measure(
    words: list[str], model: str, seconds: float, bodies: list[Path], folder: Path
) -> dict[int, Measured]:
    """Start the server with `words`, and drive it at each concurrency."""
    port = free_port()
    command = [sys.executable, "-m", "flatfold", "serve", "--port", str(port), model, *words]
    lua = folder / "png.lua"
    lua.write_text(script("png", "/v1/classify", bodies))
    with Server(command, {}, port, folder / "log") as server:
        body = bodies[0].read_bytes()
        headers = {"content-type": "image/png"}
        server.wait_ready("/v1/classify", body, headers, b"label", limit=60)
        url = f"http://127.0.0.1:{port}"
        drive(url, lua, 8, 1)  # warm
        return {each: drive(url, lua, each, seconds) for each in CONCURRENCIES}


def main() -> None:
    """Measure all ways and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="flatfold/models/cifar10.onnx")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    args = parser.parse_args()
    seen: dict[tuple[str, int], list[Measured]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bodies = write_bodies(folder)["png"]
        for _ in range(args.rounds):
            for way, words in WAYS.items():
                got = measure(words, args.model, args.seconds, bodies, folder)
                for concurrency, each in got.items():
                    seen[way, concurrency].append(each)
    heads = [f"{each}: images/s (spread), p99/p50" for each in CONCURRENCIES]
    print("| way | " + " | ".join(heads) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for way in WAYS:
        cells = []
        for concurrency in CONCURRENCIES:
            rates = sorted(each.rate for each in seen[way, concurrency])
            tail = statistics.median(each.p99 / each.p50 for each in seen[way, concurrency])
            cells.append(
                f"{statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f}), {tail:.1f}"
            )
        print(f"| {way} | " + " | ".join(cells) + " |")
    print(
        f"\n`python -m benchmarks.choices --rounds {args.rounds} --seconds {args.seconds:g} "
        f"{args.model}`, commit {commit()}, 32x32 PNG, {cpu()}, onnxruntime "
        f"{onnxruntime.__version__}, Python {platform.python_version()}."
    )


if __name__ == "__main__":
    main()
