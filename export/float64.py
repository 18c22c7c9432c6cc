"""Run a float32 model in float64 with the same weights: what it computes but for its rounding.

onnx's reference evaluator does it. Its convolutions and poolings take minutes for one network, so
the usual ones are computed here tap by tap: a window's tap of all outputs is one strided view.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from export.loading import load_model
from export.tensors import inner_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
MAX_ELEMENTS = 1 << 26  # of the weights: 512 MB in float64


def run_float64(
    model: onnx.ModelProto | str | Path, feeds: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]] | None:
    """Return every output in float64, or None where the model cannot be run so.

    Args:
        model: in memory or as a path; left as it is.
        feeds: its inputs; float32 ones are widened.
    """
    read = model if isinstance(model, onnx.ModelProto) else load_model(model)
    if sum(int(np.prod(t.dims, dtype=np.int64)) for t in read.graph.initializer) > MAX_ELEMENTS:
        return None
    wide = {n: v.astype(np.float64) if v.dtype == np.float32 else v for n, v in feeds.items()}
    try:
        evaluator = ReferenceEvaluator(widened(read), new_ops=OPERATORS)
        with np.errstate(all="ignore"):
            values = evaluator.run(None, wide)
    except Exception:  # noqa: BLE001 - whatever it cannot compute, it has no figure for
        return None
    outputs = dict(zip([info.name for info in read.graph.output], values, strict=True))
    if not all(isinstance(value, np.ndarray | np.generic) for value in outputs.values()):
        return None  # a sequence or a map
    narrow = any(v.dtype.kind == "f" and v.dtype != np.float64 for v in outputs.values())
    return None if narrow else outputs


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float32 model that computes in float64, with the same weights."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.value_info[:]
    for tensor in (*wide.graph.initializer, *inner_tensors(wide)):
        if tensor.data_type == FLOAT:
            values = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for node in wide.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = DOUBLE
    for info in (*wide.graph.input, *wide.graph.output):
        if info.type.tensor_type.elem_type == FLOAT:
            info.type.tensor_type.elem_type = DOUBLE
    return wide


class Conv(OpRun):  # type: ignore[misc]  # onnx.reference is untyped, here and below
    """Convolution of any rank, padded by numbers."""

    op_domain = ""

    def _run(self, x: Any, weight: Any, bias: Any = None, **settings: Any) -> tuple[Any]:
        groups = settings["group"] or 1
        outputs, inputs = weight.shape[:2]
        kernel = weight.shape[2:]
        filters = weight.reshape(groups, outputs // groups, inputs, -1)
        total: Any = 0.0
        for tap, view in enumerate(_views(x, kernel, settings, 0.0)):
            columns = view.reshape(len(x), groups, inputs, -1)
            total = total + np.matmul(filters[None, ..., tap], columns)
        total = total.reshape(len(x), outputs, *view.shape[2:])
        if bias is not None:
            total = total + bias.reshape(-1, *(1 for _ in kernel))
        return (total,)


class MaxPool(OpRun):  # type: ignore[misc]
    """Largest value of each window; the first output alone."""

    op_domain = ""

    def _run(self, x: Any, **settings: Any) -> tuple[Any]:
        if len(self.output) > 1:
            raise NotImplementedError("places of the maxima")
        views = _views(x, settings["kernel_shape"], settings, -np.inf)
        return (np.maximum.reduce(list(views)),)


class AveragePool(OpRun):  # type: ignore[misc]
    """Mean of each window, over the padding or not."""

    op_domain = ""

    def _run(self, x: Any, **settings: Any) -> tuple[Any]:
        kernel = settings["kernel_shape"]
        total = sum(_views(x, kernel, settings, 0.0))
        if settings.get("count_include_pad"):
            return (total / np.prod(kernel),)
        return (total / sum(_views(np.ones_like(x), kernel, settings, 0.0)),)


class DequantizeLinear(OpRun):  # type: ignore[misc]
    """Numbers of integers, one scale or one a channel; the reference has none before opset 19."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, zero: Any = None, **settings: Any) -> tuple[Any]:
        if settings.get("block_size") or settings.get("output_dtype"):
            raise NotImplementedError("a scale of blocks, an output type of its own")
        axis = settings.get("axis", 1) % max(1, x.ndim)
        shape = [-1 if place == axis else 1 for place in range(x.ndim)] if scale.size > 1 else []
        shift = 0.0 if zero is None else zero.astype(np.float64).reshape(shape)
        return ((x.astype(np.float64) - shift) * scale.reshape(shape),)


OPERATORS = [Conv, MaxPool, AveragePool, DequantizeLinear]


def _views(
    x: Any, kernel: tuple[int, ...], settings: dict[str, Any], fill: float
) -> Iterator[NDArray[Any]]:
    """Yield, tap by tap, what that tap of every window reads: (batch, channels, *output).

    Raises:
        NotImplementedError: the padding is not given by numbers, or sizes are rounded up.
    """
    if settings.get("auto_pad") not in (None, "", "NOTSET", "VALID") or settings.get("ceil_mode"):
        raise NotImplementedError("auto_pad and ceil_mode")
    rank = len(kernel)
    pads = settings.get("pads") or [0] * (2 * rank)
    strides = settings.get("strides") or [1] * rank
    dilations = settings.get("dilations") or [1] * rank
    around = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    padded = np.pad(x, around, constant_values=fill)
    axes = list(zip(padded.shape[2:], kernel, strides, dilations, strict=True))
    reaches = [size - d * (taps - 1) for size, taps, _, d in axes]
    for tap in product(*(range(taps) for taps in kernel)):
        places = (
            slice(place * d, place * d + reach, stride)
            for place, reach, (_, _, stride, d) in zip(tap, reaches, axes, strict=True)
        )
        yield padded[(slice(None), slice(None), *places)]
