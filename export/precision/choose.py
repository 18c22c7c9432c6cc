"""A folded fp32 model in the precision that was asked for, held to its accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from export.precision.audit import check_integer
from export.precision.cpu import cpu_name, has_dot_products
from export.precision.fp16 import halve
from export.precision.int8 import quantise
from export.runtime import optimised_session, run
from flatfold.contract.card import INPUT_NAME
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from training.data import Pictures

CALIBRATION_PICTURES = 1000
BATCH = 100
SPEED_ROUNDS, SPEED_RUNS = 5, 20


class AccuracyError(FlatfoldError):
    """The cheaper precision loses more accuracy than allowed."""


@dataclass(frozen=True)
class Chosen:
    """A model in its precision, and the accuracies that were measured, in shares of one."""

    model: onnx.ModelProto
    accuracy: dict[str, Any]


def convert(
    model: onnx.ModelProto, precision: str, train: Pictures, test: Pictures, max_drop: float
) -> Chosen:
    """Return `model` in `precision`, "fp16" or "int8".

    Args:
        model: folded, fp32, uint8 pixels in.
        precision: what to make of it.
        train: int8 is calibrated on some of these.
        test: both precisions are measured on all of these.
        max_drop: most accuracy that may be lost, in points of 100.

    Raises:
        AccuracyError: more was lost.
        AuditError: part of an int8 model would run in float.
    """
    if precision == "fp16":
        cheap = halve(model)
    else:
        step = max(1, len(train) // CALIBRATION_PICTURES)
        pictures = train.images[::step][:CALIBRATION_PICTURES]
        cheap = quantise(model, pictures, reduced_range=not has_dot_products())
        check_integer(cheap)
    before, after = accuracy(model, test), accuracy(cheap, test)
    drop = 100 * (before - after)
    if drop > max_drop:
        raise AccuracyError(
            f"{precision} loses {drop:.2f} points on {len(test)} test pictures ({100 * before:.2f} "
            f"to {100 * after:.2f} %); at most {max_drop:g} are allowed (--max-accuracy-drop); "
            "nothing was written"
        )
    return Chosen(cheap, {"test_top1": after, "test_top1_fp32": before, "test_images": len(test)})


def accuracy(model: onnx.ModelProto, pictures: Pictures) -> float:
    """Return the share of `pictures` whose largest logit is their label."""
    session = optimised_session(model)
    right = 0
    for start in range(0, len(pictures), BATCH):
        logits = run(session, {INPUT_NAME: pictures.images[start : start + BATCH]})[0]
        right += int((logits.argmax(1) == pictures.labels[start : start + BATCH]).sum())
    return right / len(pictures)


def measure_speed(model: onnx.ModelProto, baseline: onnx.ModelProto) -> dict[str, Any]:
    """Return images per second of `model` and `baseline`, in turn, on one thread, one by one.

    Both are medians over the rounds; the hardware and the version stand beside them.
    """
    session, other = optimised_session(model), optimised_session(baseline)
    shape = [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape]
    feeds: dict[str, NDArray[Any]] = {
        INPUT_NAME: np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    }
    rates: dict[str, list[float]] = {"here": [], "unfolded": []}
    for _ in range(SPEED_ROUNDS):
        for name, each in (("here", session), ("unfolded", other)):
            started = perf_counter()
            for _ in range(SPEED_RUNS):
                run(each, feeds)
            rates[name].append(SPEED_RUNS / (perf_counter() - started))
    return {
        "images_per_second": round(float(np.median(rates["here"])), 1),
        "unfolded_fp32_images_per_second": round(float(np.median(rates["unfolded"])), 1),
        "threads": 1,
        "batch": 1,
        "rounds": SPEED_ROUNDS,
        "cpu": cpu_name(),
        "onnxruntime": onnxruntime.__version__,
    }
