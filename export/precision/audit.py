"""What onnxruntime really runs: its optimised graph, looked at node by node.

A quantised file promises integer kernels, and onnxruntime keeps the promise only where its
patterns match; elsewhere it computes in float between a DequantizeLinear and a QuantizeLinear.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime

from export.precision.keep import runtime_names
from export.runtime import open_session, quiet_options
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Collection

# The operators that carry the work, by the names that onnxruntime gives their float kernels.
FLOAT_KERNELS = {"Conv", "FusedConv", "NhwcFusedConv", "Add", "Gemm", "FusedGemm", "MatMul"}
INTEGER_KERNELS = ("QLinear", "QGemm")  # their names begin so
_NUMBERED = re.compile(r"_token_\d+$")  # what onnxruntime appends to the name of a node it replaces


class AuditError(FlatfoldError):
    """A node that should run in integers runs in float, or one that should not runs in integers."""


@dataclass(frozen=True)
class Audit:
    """The optimised graph.

    Attributes:
        operators: how often each operator runs.
        in_float: names of the nodes that compute in float.
        in_integers: names of those that compute in integers.
    """

    operators: dict[str, int]
    in_float: tuple[str, ...]
    in_integers: tuple[str, ...]


def audit(model: onnx.ModelProto) -> Audit:
    """Let onnxruntime optimise `model` for this CPU, and look at the result."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = quiet_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(path)
        open_session(model, options)
        nodes = onnx.load(path).graph.node
    return Audit(
        dict(sorted(Counter(node.op_type for node in nodes).items())),
        tuple(node.name or node.output[0] for node in nodes if node.op_type in FLOAT_KERNELS),
        tuple(
            _NUMBERED.sub("", node.name)
            for node in nodes
            if node.op_type.startswith(INTEGER_KERNELS)
        ),
    )


def check_integer(model: onnx.ModelProto, keep_float: Collection[str] = ()) -> Audit:
    """Audit a quantised model.

    Args:
        model: what `quantise` made.
        keep_float: names of the nodes that were left in float on purpose.

    Raises:
        AuditError: another convolution, addition or matrix product would run in float, or one of
            these in integers.
    """
    result = audit(model)
    wanted = {found for name in keep_float for found in runtime_names(model, name)}
    stray = [name for name in result.in_float if name not in wanted]
    if stray:
        raise AuditError(
            f"onnxruntime {onnxruntime.__version__} runs {len(stray)} of its nodes in float: "
            f"{', '.join(stray)}; nothing was written. Export with --precision fp32, or name them "
            "with --keep-float"
        )
    forced = [name for name in keep_float if name in result.in_integers]
    if forced:
        raise AuditError(
            f"onnxruntime {onnxruntime.__version__} runs {', '.join(forced)} in integers, which "
            "--keep-float asks to leave in float; nothing was written"
        )
    return result
