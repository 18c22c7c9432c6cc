"""Two oracles for "computes the same": onnxruntime as is, and onnx's reference in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator


def feeds(model: onnx.ModelProto, seed: int = 1, batch: int = 3) -> dict[str, np.ndarray]:
    """Draw an input for each that is no initializer."""
    random = np.random.default_rng(seed)
    initialized = {tensor.name for tensor in model.graph.initializer}
    drawn = {}
    for info in model.graph.input:
        if info.name in initialized:
            continue
        kind = info.type.tensor_type
        shape = [dim.dim_value or batch for dim in kind.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        drawn[info.name] = np.asarray(random.standard_normal(shape)).astype(dtype)
        if dtype == np.bool_:
            drawn[info.name] = np.asarray(True)
    return drawn


def run_reference(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, inputs)


def run_onnxruntime(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run with graph optimisation disabled: its own folding would hide a miss."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, inputs)


def worst_error(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """Return the largest error of a channel (axis 1), in parts of that channel's RMS."""
    worst = 0.0
    for wanted, found in zip(before, after, strict=True):
        assert wanted.shape == found.shape
        assert wanted.dtype == found.dtype
        rows = wanted.shape[0] if wanted.ndim > 1 else 1
        channels = wanted.shape[min(1, wanted.ndim - 1)] if wanted.ndim else 1
        pair = [np.asarray(v, np.float64).reshape(rows, channels, -1) for v in (wanted, found)]
        difference = np.abs(pair[0] - pair[1]).max(axis=(0, 2))
        rms = np.sqrt((pair[0] ** 2).mean(axis=(0, 2)))
        worst = max(worst, float((difference / np.maximum(rms, 1e-30)).max()))
    return worst
