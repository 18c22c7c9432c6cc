"""Accuracy and pictures a second of one checkpoint unfolded, folded, in half precision, in bytes.

    python -m benchmarks.precision runs/best/model.safetensors

writes docs/precision.md, and every single measurement into docs/precision.jsonl. All run in
onnxruntime with every optimisation on, one thread, pinned to one core, in turn within each round,
so that a change of the machine's speed meets all of them. Each cell is the median over the rounds,
with the smallest and the largest; the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from benchmarks.machine import command, commit, cpu
from export.assemble import assemble
from export.precision.choose import accuracy, make_int8
from export.precision.cpu import has_dot_products
from export.precision.fp16 import halve
from export.runtime import optimised_session
from flatfold.contract.card import INPUT_NAME
from flatfold.contract.files import atomic_path
from training.checkpoint import load
from training.data import load_cifar10

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from flatfold.contract.card import Card
    from training.data import Pictures

BASELINE = "unfolded fp32"
SMALLEST_TIME = 0.3  # seconds of one cell in one round
HEAD = """# What folding and narrower numbers are worth

Made by `python -m benchmarks.precision`; every single measurement is in the JSON lines beside this
file. One checkpoint, exported in each precision and run in onnxruntime with every optimisation on,
on one thread pinned to one core. "unfolded fp32" is the export before flatfold folds it, which
onnxruntime may still fold as far as it can by itself. The models take turns within each round; a
cell is the median over the rounds with the smallest and the largest, a ratio is taken round by
round. Accuracy is top-1 on all {test} test pictures, one view of each; int8 is calibrated on 1,000
training pictures.
"""


def main() -> None:
    args = _arguments()
    pictures = tuple(load_cifar10(args.data_dir, train=train) for train in (True, False))
    loaded = load(args.checkpoint)
    models = _models(loaded, pictures[0])
    right = _accuracies(models, pictures[1])
    os.sched_setaffinity(0, {args.core})
    sessions = {name: optimised_session(model) for name, model in models.items()}
    records = [
        record
        for batch in args.batches
        for record in _measure(sessions, pictures[1].images[:batch], args.rounds)
    ]
    facts = _facts(args, loaded.card)
    sizes = {name: model.ByteSize() for name, model in models.items()}
    lines: list[dict[str, Any]] = [{"facts": facts}]
    lines += [{"model": name, "accuracy": right[name], "bytes": sizes[name]} for name in models]
    text = _report(facts, records, right, sizes, len(pictures[1]))
    for path, content in (
        (args.output, text),
        (args.output.with_suffix(".jsonl"), _json_lines([*lines, *records])),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(content)
    print(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-dir", type=Path, help="CIFAR-10's folder")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--core", type=int, default=0, help="the core to run on")
    parser.add_argument("--output", type=Path, default=Path("docs/precision.md"))
    return parser.parse_args()


def _models(loaded: Any, train: Pictures) -> dict[str, onnx.ModelProto]:
    assembled = assemble(loaded.network, loaded.card)
    return {
        BASELINE: assembled.unfolded,
        "fp32": assembled.model,
        "fp16": halve(assembled.model),
        "int8": make_int8(assembled.model, train),
    }


def _accuracies(models: dict[str, onnx.ModelProto], test: Pictures) -> dict[str, float]:
    """Return the share of right answers of each model; they are counted on all cores at once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = pool.map(lambda model: accuracy(model, test), models.values())
        return dict(zip(models, counted, strict=True))


def _measure(
    sessions: dict[str, onnxruntime.InferenceSession], images: NDArray[np.uint8], rounds: int
) -> list[dict[str, Any]]:
    """Return one record for each model and round."""
    for session in sessions.values():
        _rate(session, images)  # warm
    return [
        {
            "batch": len(images),
            "round": number,
            "model": name,
            "images_per_second": round(_rate(session, images), 2),
        }
        for number in range(rounds)
        for name, session in sessions.items()
    ]


def _rate(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> float:
    """Pictures a second over at least `SMALLEST_TIME`."""
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SMALLEST_TIME:
        session.run(None, {INPUT_NAME: images})
        done += len(images)
    return done / elapsed


def _facts(args: argparse.Namespace, card: Card) -> dict[str, str]:
    dots = "with byte dot products (VNNI)" if has_dot_products() else "without byte dot products"
    return {
        "command": command("benchmarks.precision"),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
        "network": card.architecture,
        "hardware": f"one core of {os.cpu_count()}, {cpu()}, {platform.machine()}, {dots}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions": f"onnxruntime {onnxruntime.__version__}, numpy {np.__version__}",
        "rounds": f"{args.rounds}, {SMALLEST_TIME:g} s a cell, interleaved",
    }


def _report(
    facts: dict[str, str],
    records: list[dict[str, Any]],
    right: dict[str, float],
    sizes: dict[str, int],
    test: int,
) -> str:
    rows = ["| how it was measured | |", "|---|---|"]
    rows += [f"| {name} | {value} |" for name, value in facts.items()]
    rows += ["", "| precision | accuracy | MB |", "|---|---:|---:|"]
    rows += [f"| {name} | {100 * right[name]:.2f} % | {sizes[name] / 1e6:.1f} |" for name in right]
    rows += [
        "",
        f"| batch | precision | images/s (min to max) | times {BASELINE} (min to max) |",
        "|---:|---|---:|---:|",
    ]
    for batch in dict.fromkeys(record["batch"] for record in records):
        rates = {
            name: [
                record["images_per_second"]
                for record in records
                if (record["batch"], record["model"]) == (batch, name)
            ]
            for name in right
        }
        for name, values in rates.items():
            ratios = [a / b for a, b in zip(values, rates[BASELINE], strict=True)]
            rows.append(f"| {batch} | {name} | {_spread(values, 0)} | {_spread(ratios, 2)} |")
    return HEAD.format(test=f"{test:,}") + "\n" + "\n".join(rows) + "\n"


def _spread(values: list[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _json_lines(entries: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


if __name__ == "__main__":
    main()
