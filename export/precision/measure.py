"""Accuracy and speed of every precision that can be made of a model, for its card."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from export.precision.choose import accuracy, make_int8
from export.precision.cpu import cpu_name
from export.precision.fp16 import halve
from export.runtime import optimised_session, run
from flatfold.contract.card import INPUT_NAME
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    from numpy.typing import NDArray

    from training.data import Pictures

ROUNDS, RUNS = 7, 20
BASELINE = "unfolded_fp32"


@dataclass(frozen=True)
class Measured:
    """What was measured of each precision, keyed by its name, and what was not, in sentences."""

    accuracy: dict[str, float] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def measure(
    models: Mapping[str, onnx.ModelProto],
    unfolded: onnx.ModelProto,
    pictures: tuple[Pictures, Pictures] | None,
    known: Mapping[str, float],
) -> Measured:
    """Make the precisions that are missing, and measure each.

    Args:
        models: "fp32" and what else was made already, by precision.
        unfolded: the fp32 model before folding, for comparison.
        pictures: training pictures, which int8 is calibrated on, and test pictures, if any.
        known: accuracies that were measured already, by precision.
    """
    fp32, notes = models["fp32"], []
    makers = {"fp16": partial(halve, fp32)}
    if pictures is None:
        notes.append("int8 and accuracies were not measured: no pictures found (--data-dir)")
    else:
        makers["int8"] = partial(make_int8, fp32, pictures[0])
    made = dict(models)
    for name in [name for name in makers if name not in models]:
        try:
            made[name] = makers[name]()
        except FlatfoldError as error:
            notes.append(f"{name} was not measured: {error}")
    accuracies = dict(known)
    if pictures is not None:
        for name in [name for name in made if name not in known]:
            accuracies[name] = accuracy(made[name], pictures[1])
    return Measured(accuracies, measure_speed({BASELINE: unfolded, **made}), tuple(notes))


def measure_speed(models: Mapping[str, onnx.ModelProto]) -> dict[str, Any]:
    """Return images per second of each model on one thread, one picture at a time.

    The models take turns within each round, so that a change of the machine's speed meets all.
    Beside each median stand the slowest and the fastest round, hardware and version.
    """
    sessions = {name: optimised_session(model) for name, model in models.items()}
    shape = next(iter(sessions.values())).get_inputs()[0].shape
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    feeds: dict[str, NDArray[Any]] = {
        INPUT_NAME: np.random.default_rng(0).integers(0, 256, sizes, np.uint8)
    }
    rates: dict[str, list[float]] = {name: [] for name in models}
    for session in sessions.values():
        run(session, feeds)  # warm
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            started = perf_counter()
            for _ in range(RUNS):
                run(session, feeds)
            rates[name].append(RUNS / (perf_counter() - started))
    speed: dict[str, Any] = {}
    for name, values in rates.items():
        speed[f"{name}_images_per_second"] = round(float(np.median(values)), 1)
        speed[f"{name}_images_per_second_range"] = [round(min(values), 1), round(max(values), 1)]
    return speed | {
        "threads": 1,
        "batch": 1,
        "rounds": ROUNDS,
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
    }
