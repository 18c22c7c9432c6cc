"""What onnxruntime really runs: its optimised graph, looked at node by node.

A quantised file promises integer kernels, and onnxruntime keeps the promise only where its
patterns match; elsewhere it computes in float between a DequantizeLinear and a QuantizeLinear.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime

from export.runtime import open_session, quiet_options
from flatfold.contract.errors import FlatfoldError

# The operators that carry the work, by the names that onnxruntime gives their float kernels.
FLOAT_KERNELS = {"Conv", "FusedConv", "NhwcFusedConv", "Add", "Gemm", "FusedGemm", "MatMul"}


class AuditError(FlatfoldError):
    """A node that should run in integers runs in float."""


@dataclass(frozen=True)
class Audit:
    """The optimised graph: how often each operator runs, and the names of those left in float."""

    operators: dict[str, int]
    in_float: tuple[str, ...]


def audit(model: onnx.ModelProto) -> Audit:
    """Let onnxruntime optimise `model` for this CPU, and look at the result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = quiet_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(path)
        open_session(model, options)
        nodes = onnx.load(path).graph.node
    in_float = tuple(node.name or node.output[0] for node in nodes if node.op_type in FLOAT_KERNELS)
    return Audit(dict(sorted(Counter(node.op_type for node in nodes).items())), in_float)


def check_integer(model: onnx.ModelProto) -> Audit:
    """Audit a quantised model.

    Raises:
        AuditError: a convolution, addition or matrix product would run in float.
    """
    result = audit(model)
    if result.in_float:
        raise AuditError(
            f"onnxruntime {onnxruntime.__version__} runs {len(result.in_float)} nodes in float: "
            f"{', '.join(result.in_float)}; nothing was written. Export with --precision fp32"
        )
    return result
