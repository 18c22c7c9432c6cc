"""Pictures a second of one checkpoint unfolded, folded, in half precision and in bytes.

    python -m benchmarks.precision runs/best/model.safetensors --json precision.json

All run in onnxruntime with every optimisation on, one thread, pinned to one core, in turn within
each round, so that a change of the machine's speed meets all of them. Each cell is the median over
the rounds, with the smallest and the largest; the ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from benchmarks.machine import commit, cpu
from export.assemble import assemble
from export.precision.audit import check_integer
from export.precision.cpu import has_dot_products
from export.precision.fp16 import halve
from export.precision.int8 import quantise
from export.runtime import optimised_session
from flatfold.contract.card import INPUT_NAME
from training.checkpoint import load
from training.data import find_cifar10, load_cifar10

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

CALIBRATION_PICTURES = 1000
BASELINE = "unfolded fp32"
SMALLEST_TIME = 0.3  # seconds of one cell in one round


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data-dir", type=Path, help="CIFAR-10's folder, to calibrate on")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--core", type=int, default=0, help="the core to run on")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    args = parser.parse_args()
    os.sched_setaffinity(0, {args.core})
    images = _pictures(args.data_dir)
    sessions = {
        name: optimised_session(model) for name, model in _models(args.checkpoint, images).items()
    }
    report = {
        "hardware": f"one core of {cpu()}",
        "dot_products": has_dot_products(),
        "onnxruntime": onnxruntime.__version__,
        "commit": commit(),
        "checkpoint": args.checkpoint.name,
        "rounds": args.rounds,
        "cells": [
            cell
            for batch in args.batches
            for cell in _measure(sessions, images[:batch], args.rounds)
        ],
    }
    _print(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


def _pictures(data_dir: Path | None) -> NDArray[np.uint8]:
    """Training pictures; random ones where there are none, whose speed is the same."""
    if data_dir is None and find_cifar10() is None:
        return np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    return load_cifar10(data_dir, train=True).images[:CALIBRATION_PICTURES]


def _models(checkpoint: Path, images: NDArray[np.uint8]) -> dict[str, onnx.ModelProto]:
    loaded = load(checkpoint)
    assembled = assemble(loaded.network, loaded.card)
    quantised = quantise(assembled.model, images, reduced_range=not has_dot_products())
    check_integer(quantised)
    return {
        BASELINE: assembled.unfolded,
        "folded fp32": assembled.model,
        "fp16": halve(assembled.model),
        "int8": quantised,
    }


def _measure(
    sessions: dict[str, onnxruntime.InferenceSession], images: NDArray[np.uint8], rounds: int
) -> list[dict[str, Any]]:
    rates: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        _rate(session, images)  # warm
    for _ in range(rounds):
        for name, session in sessions.items():
            rates[name].append(_rate(session, images))
    return [
        {
            "batch": len(images),
            "model": name,
            "images_per_second": _spread(values),
            "ratio": _spread([a / b for a, b in zip(values, rates[BASELINE], strict=True)]),
        }
        for name, values in rates.items()
    ]


def _rate(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> float:
    """Pictures a second over at least `SMALLEST_TIME`."""
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SMALLEST_TIME:
        session.run(None, {INPUT_NAME: images})
        done += len(images)
    return done / elapsed


def _spread(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, 3) for name, value in found.items()}


def _print(report: dict[str, Any]) -> None:
    facts = ("hardware", "onnxruntime", "commit", "checkpoint", "rounds")
    print(", ".join(f"{name} {report[name]}" for name in facts))
    print(f"\n| batch | model | images/s (min to max) | times {BASELINE} (min to max) |")
    print("|---:|---|---:|---:|")
    for cell in report["cells"]:
        speed, ratio = cell["images_per_second"], cell["ratio"]
        print(
            f"| {cell['batch']} | {cell['model']} "
            f"| {speed['median']:.0f} ({speed['min']:.0f} to {speed['max']:.0f}) "
            f"| {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) |"
        )


if __name__ == "__main__":
    main()
