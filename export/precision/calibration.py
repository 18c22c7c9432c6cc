"""Choose the range of every quantised activation from real pictures.

Two passes over the pictures: the smallest and the largest value of each tensor, then a histogram
between them. The range kept is the part of the observed one whose quantisation error, clipping
included, has the least mean square.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.runtime import run, unoptimised_session
from flatfold.contract.card import INPUT_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnxruntime
    from numpy.typing import NDArray

LEVELS = 255  # steps of an unsigned 8-bit number
BINS = 2048
BATCH = 64
FRACTIONS = np.linspace(0.3, 1.0, 71)  # shares of the observed range that are tried
# Scales are rounded to this many bits: the last bits depend on the processor that calibrates.
SCALE_BITS = 12


@dataclass(frozen=True)
class Activation:
    """How an activation is stored: value = scale * (byte - zero_point)."""

    scale: float
    zero_point: int


def calibrate(
    model: onnx.ModelProto, names: Sequence[str], images: NDArray[np.uint8]
) -> dict[str, Activation]:
    """Return scale and zero point of each tensor in `names`.

    Args:
        model: float32, pixels in.
        names: float activations of the model.
        images: uint8 (n, height, width, 3), training pictures.
    """
    if not names:
        return {}
    session = _observing_session(model, names)
    low = dict.fromkeys(names, 0.0)  # zero is always in range: it is what padding adds
    high = dict.fromkeys(names, 0.0)
    for name, values in _observe(session, names, images):
        low[name] = min(low[name], float(values.min()))
        high[name] = max(high[name], float(values.max()))
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for name, values in _observe(session, names, images):
        if low[name] < high[name]:
            counts[name] += np.histogram(values, BINS, (low[name], high[name]))[0]
    return {name: choose_range(counts[name], low[name], high[name]) for name in names}


def choose_range(counts: NDArray[np.int64], low: float, high: float) -> Activation:
    """Return the storage with the least mean square error over a histogram from `low` to `high`.

    Args:
        counts: values in each of the equal bins.
        low: left edge of the first bin, <= 0.
        high: right edge of the last bin, >= 0.
    """
    if low == high:
        return Activation(1.0, 0)
    edges = np.linspace(low, high, len(counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    options = [_storage(low * fraction, high * fraction) for fraction in FRACTIONS]
    return min(options, key=lambda option: _square_error(option, centres, counts))


def _storage(low: float, high: float) -> Activation:
    scale = _round_bits((high - low) / LEVELS)
    return Activation(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS)))


def _round_bits(value: float) -> float:
    """Return `value` with `SCALE_BITS` bits of mantissa."""
    mantissa, exponent = np.frexp(value)
    return float(np.ldexp(np.rint(np.ldexp(mantissa, SCALE_BITS)), exponent - SCALE_BITS))


def _square_error(
    option: Activation, values: NDArray[np.float64], counts: NDArray[np.int64]
) -> float:
    stored = np.clip(np.rint(values / option.scale) + option.zero_point, 0, LEVELS)
    back = (stored - option.zero_point) * option.scale
    return float(((back - values) ** 2 * counts).sum())


def _observing_session(
    model: onnx.ModelProto, names: Sequence[str]
) -> onnxruntime.InferenceSession:
    """Open a copy of the model whose outputs are `names`."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    return unoptimised_session(watched)


def _observe(
    session: onnxruntime.InferenceSession, names: Sequence[str], images: NDArray[np.uint8]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for start in range(0, len(images), BATCH):
        values = run(session, {INPUT_NAME: images[start : start + BATCH]})
        yield from zip(names, values, strict=True)
