"""Fold a sketch and ask what every fold must satisfy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from export.folding import fold_model
from tests.export.oracle import feeds, run_onnxruntime, worst_error
from tests.export.patterns import batch_norms

if TYPE_CHECKING:
    from tests.export.sketch import Sketch


def check(sketch: Sketch, left: int = 0) -> onnx.ModelProto:
    """Fold, and assert the count, a valid model and the same values; return the folded model."""
    model = sketch.model()
    folded, report = fold_model(model)
    assert len(report.kept) == batch_norms(folded) == left
    onnx.checker.check_model(folded, full_check=True)
    inputs = feeds(model)
    assert worst_error(run_onnxruntime(model, inputs), run_onnxruntime(folded, inputs)) < 1e-5
    return folded
