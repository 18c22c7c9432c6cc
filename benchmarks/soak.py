"""`python -m benchmarks.soak --minutes 20`: mixed good and bad traffic, memory sampled throughout.

Fails (exit 1) where resident memory grew by more than 5 % after the warm-up, where an answer was a
5xx that is not declared, where a good request was refused for a reason other than overload, or
where the server died.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import BY_NAME, environment_of
from benchmarks.launch import Server, free_port, stop_on_sigterm
from benchmarks.run import DEFAULT_MODEL
from benchmarks.traffic import Outcome, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable

GROWTH_LIMIT = 0.05
SAMPLE_EVERY = 5.0  # seconds
CLIENTS = 8


class Soak:
    """Clients in threads, and what they saw."""

    def __init__(self, port: int, pictures: dict[str, bytes]) -> None:
        self._port = port
        self._pictures = pictures
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.statuses: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []

    def run(self, seconds: float, sample: Iterable[float]) -> None:
        """Send traffic until `sample` ends; it yields after each look at memory."""
        clients = [
            threading.Thread(target=self._client, args=(seed,), daemon=True)
            for seed in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        ends = time.monotonic() + seconds
        for _ in sample:
            if time.monotonic() >= ends:
                break
        self._stop.set()
        for client in clients:
            client.join(30)

    def _client(self, seed: int) -> None:
        traffic = Traffic(self._port, self._pictures, random.Random(seed))
        while not self._stop.is_set():
            outcome = traffic.one()
            with self._lock:
                self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        self.statuses[f"{outcome.kind} {outcome.status}"] += 1
        if outcome.unexpected and len(self.wrong) < 20:
            self.wrong.append(f"{outcome.kind}: {outcome.status}: {outcome.unexpected}")


def growth(samples: list[float], warm_up: int) -> float:
    """Return the growth of memory after warm-up: the mean of the last fifth against the first."""
    later = samples[warm_up:]
    if len(later) < 2:
        return 0.0
    part = max(1, len(later) // 5)
    first, last = sum(later[:part]) / part, sum(later[-part:]) / part
    return last / first - 1


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--warm-up", type=float, default=60, help="seconds left out of the growth")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL)
    parser.add_argument("--output", type=Path, help="JSON of what was seen")
    parser.add_argument("flags", nargs="*", help="more flags for flatfold serve, after --")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run it and say what was seen."""
    args = parse_arguments(arguments)
    stop_on_sigterm()
    port = free_port()
    model = str(args.model.resolve())
    samples: list[float] = []
    with tempfile.TemporaryDirectory(prefix="flatfold-soak-") as folder:
        command = [*BY_NAME["ours"].command(Path(), model, port), *args.flags]
        log = Path(folder) / "server.log"
        with Server(command, environment_of(model), port, log) as server:
            pictures = Traffic.make_pictures()
            headers = {"Content-Type": "image/png"}
            server.wait_ready("/v1/classify", pictures["png"], headers, b"predictions", limit=60)
            soak = Soak(port, pictures)

            def sample() -> Iterable[float]:
                while True:
                    time.sleep(SAMPLE_EVERY)
                    samples.append(server.memory()["rss"])
                    print(
                        f"{samples[-1]:.1f} MB, {sum(soak.statuses.values())} answers", flush=True
                    )
                    yield samples[-1]

            soak.run(args.minutes * 60, sample())
            alive = server.alive
            code = server.stop()
    return conclude(args, soak, samples, clean=alive and code == 0)


def conclude(args: argparse.Namespace, soak: Soak, samples: list[float], *, clean: bool) -> int:
    """Print and write the verdict; return the exit code."""
    grown = growth(samples, round(args.warm_up / SAMPLE_EVERY))
    seen = {
        "minutes": args.minutes,
        "answers": dict(sorted(soak.statuses.items())),
        "memory_mb": [round(value, 1) for value in samples],
        "growth": round(grown, 4),
        "wrong": soak.wrong,
        "alive_and_exit_0": clean,
    }
    if args.output:
        args.output.write_text(json.dumps(seen, indent=1) + "\n")
    print(json.dumps({key: value for key, value in seen.items() if key != "memory_mb"}, indent=1))
    good = clean and not soak.wrong and grown <= GROWTH_LIMIT
    print("soak: passed" if good else "soak: FAILED", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
