"""From a PyTorch network to a plain ONNX graph, nothing optimised and nothing about this machine.

torch's exporter folds Conv-BN by itself unless told not to; here `export.folding` does the folding,
so that it can prove it. What the exporter writes beside the graph (stack traces with paths,
module hierarchies, versions) is removed: the same network gives the same bytes in any folder.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

import torch

from flatfold import __version__
from flatfold.contract.card import INPUT_NAME, LOGITS_NAME
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

BATCH = 2  # of the example input: 1 would be taken for a constant
CHANNELS = 3


class TraceError(FlatfoldError):
    """torch's exporter cannot write this network."""


def trace(network: torch.nn.Module, height: int, width: int) -> onnx.ModelProto:
    """Export `network` with a dynamic batch.

    Args:
        network: in eval mode; float32 (batch, 3, height, width) to logits (batch, classes).
        height: picture height in pixels.
        width: picture width in pixels.

    Raises:
        TraceError: torch cannot export it.
    """
    example = torch.zeros(BATCH, CHANNELS, height, width)
    with _quiet():
        try:
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                optimize=False,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUT_NAME],
                output_names=[LOGITS_NAME],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            lines = [
                line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()
            ]
            raise TraceError(f"torch cannot export this network: {lines[0]}") from error
    if program is None:
        raise TraceError("torch's exporter gave no model back")
    model: onnx.ModelProto = program.model_proto
    anonymise(model)
    return model


def anonymise(model: onnx.ModelProto) -> None:
    """Remove, in place, every text that says where, when or by what the model was written."""
    model.producer_name, model.producer_version = "flatfold", __version__
    graph = model.graph
    graph.name = "flatfold"
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info,
                 *graph.input, *graph.output):  # fmt: skip
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's remarks about packages that this network does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
