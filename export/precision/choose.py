"""A folded fp32 model in the precision that was asked for, held to its accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.precision.audit import check_integer
from export.precision.cpu import has_dot_products
from export.precision.fp16 import halve
from export.precision.int8 import quantise
from export.runtime import optimised_session, run
from flatfold.contract.card import INPUT_NAME
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from training.data import Pictures

CALIBRATION_PICTURES = 1000
BATCH = 100


class AccuracyError(FlatfoldError):
    """The cheaper precision loses more accuracy than allowed."""


@dataclass(frozen=True)
class Chosen:
    """A model in its precision, and the accuracies that were measured.

    Attributes:
        model: as it will be written.
        accuracy: share of the test pictures that "fp32" and the precision itself get right.
    """

    model: onnx.ModelProto
    accuracy: dict[str, float]


def convert(
    model: onnx.ModelProto,
    precision: str,
    pictures: tuple[Pictures, Pictures],
    max_drop: float,
    keep_float: Collection[str] = (),
) -> Chosen:
    """Return `model` in `precision`, "fp16" or "int8", if it is accurate enough.

    Args:
        model: folded, fp32, uint8 pixels in.
        precision: what to make of it.
        pictures: training pictures, which int8 is calibrated on some of, and test pictures, which
            both precisions are measured on all of.
        max_drop: most accuracy that may be lost, in points of 100.
        keep_float: names of the nodes that int8 leaves in float.

    Raises:
        AccuracyError: more was lost.
        AuditError: part of an int8 model would run in float.
    """
    train, test = pictures
    cheap = halve(model) if precision == "fp16" else make_int8(model, train, keep_float)
    before, after = accuracy(model, test), accuracy(cheap, test)
    drop = 100 * (before - after)
    if drop > max_drop:
        raise AccuracyError(
            f"{precision} loses {drop:.2f} points on {len(test)} test pictures ({100 * before:.2f} "
            f"to {100 * after:.2f} %); at most {max_drop:g} are allowed (--max-accuracy-drop); "
            "nothing was written"
        )
    return Chosen(cheap, {"fp32": before, precision: after})


def make_int8(
    model: onnx.ModelProto, train: Pictures, keep_float: Collection[str] = ()
) -> onnx.ModelProto:
    """Return `model` in int8, whatever its accuracy; arguments as in `convert`.

    Raises:
        AuditError: part of it would run in float.
    """
    step = max(1, len(train) // CALIBRATION_PICTURES)
    pictures = train.images[::step][:CALIBRATION_PICTURES]
    cheap = quantise(model, pictures, reduced_range=not has_dot_products(), keep_float=keep_float)
    check_integer(cheap, keep_float)
    return cheap


def accuracy(model: onnx.ModelProto, pictures: Pictures) -> float:
    """Return the share of `pictures` whose largest logit is their label."""
    session = optimised_session(model)
    right = 0
    for start in range(0, len(pictures), BATCH):
        logits = run(session, {INPUT_NAME: pictures.images[start : start + BATCH]})[0]
        right += int((logits.argmax(1) == pictures.labels[start : start + BATCH]).sum())
    return right / len(pictures)
