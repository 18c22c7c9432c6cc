"""Every row of docs/fold-conformance.md, on small models with random statistics."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.folding import fold_model
from export.report import FoldRefusedError
from tests.export.oracle import feeds, run_onnxruntime, run_reference, worst_error
from tests.export.patterns import Pattern, all_nodes, batch_norms, patterns

TOLERANCES = {
    "float32": 1e-5,
    "float64": 1e-11,
    "float16": 2e-2,
    "float16_with_float32_statistics": 2e-2,
    "float16_overflow": 2e-2,
    "bfloat16": 1e-1,
}


def _id(pattern: Pattern) -> str:
    return f"{pattern.row}-{pattern.name}"


FOLDABLE = [p for p in patterns() if not p.refused]
REFUSED = [p for p in patterns() if p.refused]


@pytest.mark.parametrize("pattern", FOLDABLE, ids=_id)
def test_verdict_and_value(pattern):
    model = pattern.model()
    untouched = model.SerializeToString()

    folded, report = fold_model(model)

    assert model.SerializeToString() == untouched
    assert batch_norms(folded) == pattern.left
    assert len(report.kept) == pattern.left
    assert len(report.verdicts) == batch_norms(model)
    assert all(v.reason for v in report.verdicts)
    gone = batch_norms(model) - pattern.left
    left_as_add = sum("Add" in v.rule for v in report.folded)
    assert len(all_nodes(folded)) <= len(all_nodes(model)) - gone + left_as_add
    onnx.checker.check_model(folded, full_check=True)
    if pattern.runs or pattern.reference:
        run = run_onnxruntime if pattern.runs else run_reference
        inputs = feeds(model)
        error = worst_error(run(model, inputs), run(folded, inputs))
        assert error < TOLERANCES[pattern.name if pattern.name in TOLERANCES else "float32"]


@pytest.mark.parametrize(
    "pattern", [p for p in FOLDABLE if p.reference and p.row not in ("25", "26")], ids=_id
)
def test_exact_in_float64(pattern):
    model = pattern.model("float64")
    folded, _ = fold_model(model)
    inputs = feeds(model)
    error = worst_error(run_reference(model, inputs), run_reference(folded, inputs))
    assert error < TOLERANCES["float64"]


@pytest.mark.parametrize("pattern", REFUSED, ids=_id)
def test_refused(pattern):
    with pytest.raises(FoldRefusedError, match="batchnormalization_0"):
        fold_model(pattern.model())


REASONS = {
    "flatten_from_a_map": ("flatten_0", "splits or mixes the channels"),
    "max_pool_negative": ("maxpool_0", "of 4 channels have a negative scale"),
    "global_max_pool_negative": ("globalmaxpool_0", "of 4 channels have a negative scale"),
    "average_pool_padding_counted": ("averagepool_0", "count_include_pad=1"),
    "forward_conv_padded": ("conv_0", "pads with zeros"),
    "forward_conv_transpose": ("convtranspose_0", "unequal shifts"),
    "two_consumers": ("conv_0", "2 consumers"),
    "conv_is_an_output": ("conv_0", "an output of the graph"),
    "sum_with_skip": ("add_0", "reads 'x', an input of the graph"),
    "concat_with_input": ("concat_0", "reads 'x', an input of the graph"),
    "pre_activation": ("relu_0", "'x' is an input of the graph"),
    "parameters_are_inputs": ("batchnormalization_0", "known only at run time"),
    "parameters_computed": ("batchnormalization_0", "known only at run time"),
    "training_mode": ("batchnormalization_0", "training mode"),
    "several_outputs": ("batchnormalization_0", "several outputs"),
    "float16_overflow": ("conv_0", "overflows float16"),
    "conv_outside_if": ("conv_0", "outside this body"),
    "quantised_between": ("dequantizelinear_0", "cannot take a scale and shift"),
}


@pytest.mark.parametrize("pattern", [p for p in FOLDABLE if p.left], ids=_id)
def test_a_kept_one_has_a_reason(pattern):
    _, report = fold_model(pattern.model())
    (kept,) = report.kept
    blocker, words = REASONS[pattern.name]
    assert words in kept.reason
    assert kept.blocker == blocker


def test_bytes_do_not_change_from_run_to_run():
    for pattern in FOLDABLE:
        model = pattern.model()
        first, second = (fold_model(model)[0] for _ in range(2))
        assert first.SerializeToString(deterministic=True) == second.SerializeToString(
            deterministic=True
        )


def test_the_table_is_complete():
    """Each row has a pattern; rows 31's external data and size are in test_loading."""
    rows = {p.row for p in patterns()}
    numbered = {str(n) for n in range(1, 32)} | {"7b", "7c", "12b"}
    assert rows == numbered
    assert np.sum([batch_norms(p.model()) for p in patterns()]) > 49
