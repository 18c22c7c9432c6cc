"""Which network is worth its milliseconds: speed in onnxruntime, size, and accuracy if asked.

    python -m benchmarks.candidates                            # speed; some two minutes
    python -m benchmarks.candidates --epochs 5 --limit 1       # and one short training more

writes the table in docs/training.md. Speed is that of one core, one thread, exported by flatfold
in fp32 and int8; it does not depend on what the weights are, so untrained networks stand for
trained ones. All take turns in each round. Accuracy is that of `--preset`'s recipe cut to
`--epochs`, on held-out training pictures, with `--seeds`. Every figure is a JSON line and is not
measured again.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from benchmarks.trials import (
    Ledger,
    Trial,
    add_trial_arguments,
    machine,
    mean_loss,
    percent,
    put_table,
    run_trials,
    telling_errors,
)
from export.assemble import assemble
from export.precision.choose import make_int8
from export.runtime import optimised_session
from flatfold.contract.card import INPUT_NAME, Card
from training.architecture import NetworkConfig
from training.data import Pictures, load_cifar10
from training.initialisation import initialise
from training.network import FlatNet
from training.recipe import preset

if TYPE_CHECKING:
    import onnx

SHAPES = (
    "32x2-128x2-128x2",
    "64x2-128x2-256x2",
    "64x2-256x2-256x2",
    "64x3-256x3-384x3",
    "96x3-320x3-512x3",
    "96x3-384x3-384x3",
    "128x2-384x2-384x2",
)
BATCHES = (1, 8)
PRECISIONS = ("fp32", "int8")
SMALLEST_TIME = 0.1  # seconds of one cell in one round
LABELS = tuple(f"class {number}" for number in range(10))


def parse(shape: str) -> NetworkConfig:
    """Return the network that e.g. 64x2-256x3-384x3 stands for: widths and depths."""
    if not re.fullmatch(r"\d+x[23](-\d+x[23])*", shape):
        raise SystemExit(f"{shape!r} is no shape; expected channels and depth such as 64x2-256x3")
    pairs = [part.split("x") for part in shape.split("-")]
    widths, depths = zip(*((int(width), int(depth)) for width, depth in pairs), strict=True)
    return NetworkConfig(widths=widths, depths=depths)


def exported(config: NetworkConfig) -> dict[str, onnx.ModelProto]:
    """Return an untrained network of this shape as `flatfold export` would write it."""
    network = FlatNet(config)
    initialise(network, torch.Generator().manual_seed(0))
    side = config.image_size
    third = (0.5, 0.5, 0.5)
    card = Card(name="untrained", labels=LABELS, height=side, width=side, mean=third, std=third)
    model = assemble(network.eval(), card).model
    noise = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), np.uint8)
    few = Pictures(noise, np.zeros(len(noise), np.int64), LABELS)
    return {"fp32": model, "int8": make_int8(model, few)}


def measure_speed(shapes: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return one row a shape: its size, and milliseconds a call by precision and batch."""
    rows: dict[str, dict[str, Any]] = {}
    sessions: dict[tuple[str, str], onnxruntime.InferenceSession] = {}
    for shape in shapes:
        print(f"exporting {shape}", flush=True)
        config, models = parse(shape), exported(parse(shape))
        weights = sum(parameter.numel() for parameter in FlatNet(config).parameters())
        rows[shape] = {"shape": shape, "multiply_adds": config.multiply_adds, "weights": weights}
        rows[shape] |= {"bytes": {name: model.ByteSize() for name, model in models.items()}}
        sessions |= {(shape, name): optimised_session(model) for name, model in models.items()}
    images = np.random.default_rng(1).integers(0, 256, (max(BATCHES), 32, 32, 3), np.uint8)
    found: dict[tuple[str, str, int], list[float]] = {}
    for number in range(rounds + 1):
        for (shape, name), session in sessions.items():
            for batch in BATCHES:
                spent = milliseconds(session, images[:batch])
                if number:  # the first round warms up
                    found.setdefault((shape, name, batch), []).append(spent)
    for (shape, name, batch), times in found.items():
        spread = (statistics.median(times), min(times), max(times))
        rows[shape][f"{name} {batch}"] = [round(value, 3) for value in spread]
    return list(rows.values())


def milliseconds(session: onnxruntime.InferenceSession, images: np.ndarray) -> float:
    """Return the milliseconds of one call, from as many as fill the smallest time."""
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SMALLEST_TIME:
        session.run(None, {INPUT_NAME: images})
        calls += 1
    return 1000 * elapsed / calls


def render(ledger: Ledger) -> str:
    """Return the Markdown table of everything measured, cheapest network first."""
    heads = [f"{name}, {batch}" for name in PRECISIONS for batch in BATCHES]
    lines = [
        "| network | multiply-adds | weights | MB fp32 / int8 | ms: "
        + " | ms: ".join(heads)
        + " | held-out accuracy, % | loss |",
        "|---|---:|---:|---:|" + "---:|" * len(heads) + "---|---:|",
    ]
    speeds = {row["shape"]: row for row in ledger.find(kind="speed")}  # the newest of each
    for shape, row in sorted(speeds.items(), key=lambda item: item[1]["multiply_adds"]):
        trained = [each for each in ledger.rows if each.get("trial") == shape]
        cells = [
            shape,
            f"{row['multiply_adds'] / 1e6:.0f} M",
            f"{row['weights'] / 1e6:.1f} M",
            " / ".join(f"{row['bytes'][name] / 1e6:.1f}" for name in PRECISIONS),
            *(
                f"{row[f'{name} {batch}'][0]:.2f} ({row[f'{name} {batch}'][1]:.2f} to "
                f"{row[f'{name} {batch}'][2]:.2f})"
                for name in PRECISIONS
                for batch in BATCHES
            ),
            percent(trained),
            mean_loss(trained),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    facts = dict.fromkeys(f"{row['machine']}, {row['rounds']} rounds" for row in speeds.values())
    runs = dict.fromkeys(
        f"{row['epochs']} epochs, {row['held_out']:,} held out ({row['machine']})"
        for row in ledger.rows
        if "trial" in row
    )
    lines += ["", "Speed: " + "; ".join(facts) + "."]
    lines += [f"Accuracy: {', '.join(runs)}."] if runs else []
    return "\n".join(lines) + "\n"


@telling_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--core", type=int, default=0, help="the core to measure speed on")
    parser.add_argument("--again", action="store_true", help="measure known speeds again")
    parser.add_argument("--epochs", type=int, help="train each network for so long")
    parser.add_argument("--output", type=Path, default=Path("docs/candidates.jsonl"))
    parser.add_argument("--document", type=Path, default=Path("docs/training.md"))
    add_trial_arguments(parser)
    args = parser.parse_args()
    ledger = Ledger(args.output)
    known = set() if args.again else {row["shape"] for row in ledger.find(kind="speed")}
    fresh = [shape for shape in args.shapes if shape not in known]
    if fresh:
        cores = os.sched_getaffinity(0)
        torch.set_num_threads(1)
        os.sched_setaffinity(0, {args.core})
        facts = f"{machine()}, onnxruntime {onnxruntime.__version__}"
        for row in measure_speed(fresh, args.rounds):
            ledger.add(kind="speed", **row, rounds=args.rounds, machine=facts)
        os.sched_setaffinity(0, cores)
    put_table(args.document, "candidates", render(ledger))
    if args.epochs:
        torch.set_num_threads(args.threads)
        base = replace(preset(args.preset), epochs=args.epochs)
        trials = [
            Trial(shape, replace(base, network=_in_recipe(base.network, shape)), seed)
            for seed in args.seeds
            for shape in args.shapes
        ]
        states = args.output.parent.parent / "runs" / "trials"
        pictures = load_cifar10(args.data_dir, train=True)
        run_trials(trials, ledger, pictures, states, args.limit)
        put_table(args.document, "candidates", render(ledger))
    print(render(ledger))


def _in_recipe(network: NetworkConfig, shape: str) -> NetworkConfig:
    """Return the recipe's network in another shape."""
    config = parse(shape)
    return replace(network, widths=config.widths, depths=config.depths)


if __name__ == "__main__":
    main()
