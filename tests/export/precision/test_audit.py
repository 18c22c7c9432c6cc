"""What onnxruntime makes of a model."""

from __future__ import annotations

from export.precision.audit import audit
from tests.export.classifiers import finished, residual_model


def test_it_counts_and_names_the_float_kernels_of_the_optimised_graph():
    model = finished(residual_model())
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{number}"
    found = audit(model)
    assert len(found.in_float) >= 3
    assert sum(found.operators.values()) < len(model.graph.node)
    assert list(found.operators) == sorted(found.operators)


def test_the_model_is_left_as_it_was():
    model = finished(residual_model())
    before = model.SerializeToString()
    audit(model)
    assert model.SerializeToString() == before
