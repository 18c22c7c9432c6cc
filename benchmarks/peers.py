"""Other tools that fold batch norms, each as one function.

`ON_FILES` take a path and write a path, as `flatfold fold` does. `ON_MODULES` take a PyTorch module
and its arguments, and return the batch norms left and the outputs of what they made.
"""

# ruff: noqa: PLC0415 - a peer is imported by its own function alone: none has to be installed

from __future__ import annotations

import importlib.metadata
import warnings
from typing import TYPE_CHECKING, Any

import onnx

if TYPE_CHECKING:
    from pathlib import Path


def flatfold(source: Path, target: Path) -> None:
    """This project."""
    from export.folding import fold_model

    folded, _ = fold_model(onnx.load(source))
    onnx.save(folded, target)


def onnxruntime(source: Path, target: Path) -> None:
    """Its offline optimisation, without the layouts that suit one machine only."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    runtime.InferenceSession(str(source), options)


def onnxscript(source: Path, target: Path) -> None:
    """Its optimizer, then its default rewrite rules."""
    from onnxscript import optimizer, rewriter

    model = optimizer.optimize(onnx.load(source))
    onnx.save(rewriter.rewrite(model), target)


def onnxoptimizer(source: Path, target: Path) -> None:
    """All its fusions and eliminations."""
    import onnxoptimizer as tool

    onnx.save(tool.optimize(onnx.load(source), tool.get_fuse_and_elimination_passes()), target)


def onnxsim(source: Path, target: Path) -> None:
    """Its default simplification."""
    import onnxsim as tool

    simplified, _ = tool.simplify(onnx.load(source))
    onnx.save(simplified, target)


def onnxslim(source: Path, target: Path) -> None:
    """Its default slimming."""
    import onnxslim as tool

    onnx.save(tool.slim(onnx.load(source)), target)


def torch_exporter(module: Any, arguments: tuple[Any, ...]) -> tuple[int, Any]:
    """torch.onnx.export as it comes, which folds by itself."""
    import numpy as np
    import torch

    from tests.export.oracle import run_onnxruntime
    from tests.export.patterns import batch_norms

    program = torch.onnx.export(module, arguments, dynamo=True, verbose=False)
    assert program is not None
    model = program.model_proto
    inputs = {model.graph.input[0].name: np.asarray(arguments[0])}
    return batch_norms(model), run_onnxruntime(model, inputs)[0]


def torch_fx(module: Any, arguments: tuple[Any, ...]) -> tuple[int, Any]:
    """torch.fx's experimental fuse."""
    import torch
    from torch.fx.experimental.optimization import fuse

    fused: Any = fuse(module)
    norms = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)
    called = [node.target for node in fused.graph.nodes if node.op == "call_module"]
    left = sum(isinstance(fused.get_submodule(target), norms) for target in called)
    return left, fused(*arguments).detach().numpy()


def torchao(module: Any, arguments: tuple[Any, ...]) -> tuple[int, Any]:
    """torchao's fusion of Conv-BN, the one behind its quantisation of exported programs."""
    import torch
    from torchao.quantization.pt2e.utils import _fuse_conv_bn_

    exported: Any = torch.export.export(module, arguments).module()
    _fuse_conv_bn_(exported)
    left = sum("batch_norm" in str(node.target) for node in exported.graph.nodes)
    return left, exported(*arguments).detach().numpy()


ON_FILES = {
    function.__name__: function
    for function in (flatfold, onnxruntime, onnxscript, onnxoptimizer, onnxsim, onnxslim)
}
ON_MODULES = {
    "torch exporter": torch_exporter,
    "torch.fx fuse": torch_fx,
    "torchao": torchao,
}
PACKAGES = {"torch exporter": "torch", "torch.fx fuse": "torch"}


def version(peer: str) -> str | None:
    """Return the installed version; None where it is not installed."""
    try:
        return importlib.metadata.version(PACKAGES.get(peer, peer))
    except importlib.metadata.PackageNotFoundError:
        return None


def quiet() -> None:
    """Keep the tools' own warnings out of the table."""
    warnings.simplefilter("ignore")
