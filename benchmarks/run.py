"""`python -m benchmarks.run`: this server, its peers and the floor, in interleaved rounds.

Writes the table (docs/benchmarks.md) and every single measurement (JSON lines) beside it. A run
that was stopped goes on where it was: what the JSON lines hold is not measured again.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.apps.pipeline import Pipeline
from benchmarks.bodies import KINDS, TENSOR_JSON, write_bodies
from benchmarks.contenders import BY_NAME, CONTENDERS, Contender, environment_of
from benchmarks.floor import measure_floor
from benchmarks.launch import LaunchError, Server, free_port, stop_on_sigterm
from benchmarks.load import CONTENT_TYPES, LoadError, drive, script
from benchmarks.machine import provenance
from benchmarks.report import write_report
from benchmarks.results import FLOOR, Results

CELLS = ("png:1", "png:8", "png:32", "jpeg:8", "jpeg:32", "tensor:8", "tensor:32")
START_LIMIT = 60.0  # seconds
AFTERWARDS = 3.0  # seconds from the first answer until a server is weighed: some go on loading
ATTEMPTS = 2  # a peer may fail to start once: pytriton's parts wait one second for each other
WARM_UP = 1.0  # seconds of load before a server's first cell of each kind
DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "flatfold" / "models" / "cifar10.onnx"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", type=Path, default=[DEFAULT_MODEL], metavar="ONNX")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=3, help="a cell; wrk takes whole seconds")
    add("--only", default="", help=f"of: {FLOOR}, {', '.join(BY_NAME)}")
    add("--skip", default="", help="names to leave out")
    add("--cells", nargs="+", default=list(CELLS), metavar="KIND:CONCURRENCY")
    add("--cache-dir", type=Path, default=Path.home() / ".cache" / "flatfold" / "bench")
    add("--raw", type=Path, default=Path("docs/benchmarks.jsonl"), help="JSON lines, appended to")
    add("--fresh", action="store_true", help="forget what --raw holds")
    add("--output", type=Path, default=Path("docs/benchmarks.md"))
    add("--report-only", action="store_true", help="write the table from --raw, measure nothing")
    args = parser.parse_args(arguments)
    wanted = args.only.split(",") if args.only else [FLOOR, *BY_NAME]
    args.only = [name for name in wanted if name not in args.skip.split(",")]
    if unknown := [name for name in args.only if name != FLOOR and name not in BY_NAME]:
        parser.error(f"unknown server {unknown[0]!r}; expected {FLOOR}, {', '.join(BY_NAME)}")
    for cell in args.cells:
        kind, _, concurrency = cell.partition(":")
        if kind not in KINDS or not concurrency.isdigit() or not int(concurrency):
            parser.error(f"a cell is KIND:CONCURRENCY with one of {KINDS}, got {cell!r}")
    if missing := [str(model) for model in args.models if not model.is_file()]:
        parser.error(f"no such model: {missing[0]}")
    return args


class Bench:
    """One run: the plan is rounds x models x servers x cells, the innermost last."""

    def __init__(self, args: argparse.Namespace, folder: Path, results: Results) -> None:
        self._args = args
        self._folder = folder
        self._results = results
        self._bodies = write_bodies(folder)
        self._failed: set[str] = set()
        self._facts: dict[str, str] = {}

    def run(self) -> None:
        """Measure what is missing."""
        contenders = [item for item in CONTENDERS if item.name in self._args.only]
        for item in contenders:
            try:
                item.install(self._args.cache_dir)
            except subprocess.CalledProcessError as error:
                self._failed.add(item.name)
                print(f"{item.name}: left out, not installed: {error}", file=sys.stderr)
        self._facts = provenance(self._args)
        for turn in range(self._args.rounds):
            for model in self._args.models:
                if FLOOR in self._args.only:
                    self._floor(turn, model)
                # Another order each round: no server always follows the same neighbour.
                shift = turn % max(1, len(contenders))
                for item in contenders[shift:] + contenders[:shift]:
                    self._server(turn, model, item)

    def _floor(self, turn: int, model: Path) -> None:
        for kind in dict.fromkeys(cell.split(":")[0] for cell in self._args.cells):
            if self._results.has((turn, model.stem, FLOOR, kind)):
                continue
            rate = measure_floor(str(model), kind, self._bodies[kind], self._args.seconds)
            self._keep(turn, model, FLOOR, kind, rate=rate)

    def _server(self, turn: int, model: Path, item: Contender) -> None:
        cells = [
            cell
            for cell in self._args.cells
            if cell.split(":")[0] in item.paths
            and not self._results.has((turn, model.stem, item.name, cell))
        ]
        if not cells or item.name in self._failed:
            return
        for attempt in range(ATTEMPTS):
            missing = [c for c in cells if not self._results.has((turn, model.stem, item.name, c))]
            try:
                self._measure(turn, model, item, missing)
            except (LaunchError, LoadError, OSError) as error:
                print(f"{item.name}: attempt {attempt + 1}: {error}", file=sys.stderr)
            else:
                return
        self._failed.add(item.name)
        print(f"{item.name}: left out from here on", file=sys.stderr)

    def _measure(self, turn: int, model: Path, item: Contender, cells: list[str]) -> None:
        port = free_port()
        pipeline = Pipeline(str(model))
        name = json.loads(pipeline.card)["name"]
        command = item.command(self._args.cache_dir, str(model.resolve()), port)
        log = self._folder / f"{item.name}.log"
        with Server(command, environment_of(str(model.resolve())), port, log) as server:
            kinds = list(dict.fromkeys(cell.split(":")[0] for cell in cells))
            for kind in kinds:
                path = item.paths[kind].format(name=name)
                body = self._bodies[kind][0].read_bytes()
                wanted = b"" if item.ceiling else expected(pipeline, kind, body)
                seconds = server.wait_ready(
                    path, body, headers_for(kind), wanted, limit=START_LIMIT
                )
                if kind == kinds[0] and not self._results.has(
                    (turn, model.stem, item.name, "ready")
                ):
                    time.sleep(AFTERWARDS)
                    memory = server.memory()
                    self._keep(turn, model, item.name, "ready", seconds=seconds, **memory)
                lua = self._folder / f"{kind}.lua"
                lua.write_text(script(kind, path, self._bodies[kind]))
                url = f"http://127.0.0.1:{port}"
                drive(url, lua, 8, WARM_UP)
                for cell in (cell for cell in cells if cell.split(":")[0] == kind):
                    concurrency = int(cell.split(":")[1])
                    measured = drive(url, lua, concurrency, self._args.seconds)
                    self._keep(turn, model, item.name, cell, **measured.as_dict())

    def _keep(self, turn: int, model: Path, server: str, cell: str, **fields: Any) -> None:
        self._results.note(self._facts)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._results.add(round=turn, model=model.stem, server=server, cell=cell, at=now, **fields)
        shown = ", ".join(f"{key} {value:.1f}" for key, value in fields.items())
        print(f"round {turn} {model.stem} {server} {cell}: {shown}", flush=True)


def headers_for(kind: str) -> dict[str, str]:
    """Return the headers that wrk sends, for the first question."""
    headers = {"Content-Type": CONTENT_TYPES[kind]}
    if kind == "tensor":
        headers["Inference-Header-Content-Length"] = str(len(TENSOR_JSON))
    return headers


def expected(pipeline: Pipeline, kind: str, body: bytes) -> bytes:
    """Return what a right answer contains: the best label first, or the best class's raw value."""
    if kind == "tensor":
        return b"probabilities"
    best = pipeline.classify(body)["predictions"][0]["label"]
    return f'[{{"label":"{best}"'.encode()


def main(arguments: list[str] | None = None) -> int:
    """Measure and write."""
    args = parse_arguments(arguments)
    stop_on_sigterm()
    if args.fresh:
        args.raw.unlink(missing_ok=True)
    args.raw.parent.mkdir(parents=True, exist_ok=True)
    results = Results(args.raw)
    with tempfile.TemporaryDirectory(prefix="flatfold-bench-") as folder:
        if not args.report_only:
            Bench(args, Path(folder), results).run()
    write_report(args.output, results.rows, results.facts())
    print(f"wrote {args.output} from {len(results.rows)} measurements in {args.raw}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
