"""The floor: two processes that decode, infer and format, with no HTTP and no batches.

Every share in the tables is a share of the images per second that these two reach together.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from benchmarks.apps.pipeline import Pipeline
from benchmarks.bodies import KINDS, SIDE, write_bodies

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

PROCESSES = 2
WARM_UP = 20  # pictures


def _unit_of_work(pipeline: Pipeline, kind: str) -> Callable[[bytes], bytes]:
    if kind == "tensor":

        def answer_tensor(body: bytes) -> bytes:
            head, pixels = body[: -SIDE * SIDE * 3], body[-SIDE * SIDE * 3 :]
            shape = orjson.loads(head)["inputs"][0]["shape"]
            return pipeline.infer(np.frombuffer(pixels, np.uint8).reshape(shape)).tobytes()

        return answer_tensor

    def answer_picture(body: bytes) -> bytes:
        # The whole picture is decoded: libjpeg's shortcut is the servers' to take.
        return orjson.dumps(pipeline.classify(body, draft=False))

    return answer_picture


@dataclass(frozen=True)
class _Job:
    model: str
    kind: str
    bodies: list[bytes]
    seconds: float


def _worker(job: _Job, ready: Barrier, rates: SimpleQueue[float]) -> None:
    work = _unit_of_work(Pipeline(job.model), job.kind)
    for index in range(WARM_UP):
        work(job.bodies[index % len(job.bodies)])
    ready.wait(60)
    start = time.perf_counter()
    done = 0
    while time.perf_counter() < start + job.seconds:
        work(job.bodies[done % len(job.bodies)])
        done += 1
    rates.put(done / (time.perf_counter() - start))


def measure_floor(model: str, kind: str, paths: list[Path], seconds: float) -> float:
    """Return images per second of both processes together.

    Raises:
        RuntimeError: a process ended early.
    """
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(PROCESSES)
    rates = context.SimpleQueue()
    job = _Job(model, kind, [path.read_bytes() for path in paths], seconds)
    workers = [
        context.Process(target=_worker, args=(job, ready, rates), daemon=True)
        for _ in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + 60)
    if any(worker.exitcode != 0 for worker in workers):
        raise RuntimeError(f"a process of the floor failed: {[w.exitcode for w in workers]}")
    return float(sum(rates.get() for _ in workers))


def main() -> int:
    """`python -m benchmarks.floor MODEL`: the floor alone, for a quick look."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_bodies(Path(folder))
        rates = {kind: measure_floor(args.model, kind, paths[kind], args.seconds) for kind in KINDS}
    print(json.dumps({kind: round(rate, 1) for kind, rate in rates.items()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
