"""The conformance table as data: one small model a pattern, and what must become of it.

`docs/fold-conformance.md` is the table in words; the rows here carry its numbers. The tests and
`benchmarks/conformance.py` both read this.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.export.sketch import Sketch

if TYPE_CHECKING:
    import onnx

Draw = Callable[[Sketch], None]


@dataclass(frozen=True)
class Pattern:
    """One pattern.

    Attributes:
        row: its row in the table, e.g. "7b".
        name: what it is, e.g. "conv_max_pool".
        draw: draws it into an empty sketch.
        left: batch norms that must be left.
        refused: whether folding must refuse the model.
        opset: of the sketch.
        runs: whether onnxruntime's CPU provider has all its operators.
        reference: whether onnx's reference implementation has.
    """

    row: str
    name: str
    draw: Draw
    left: int = 0
    refused: bool = False
    opset: int = 17
    runs: bool = True
    reference: bool = True

    def model(self, dtype: object = "float32", seed: int = 0) -> onnx.ModelProto:
        """Return the model with random weights of `dtype`."""
        sketch = Sketch(opset=self.opset, seed=seed, dtype=dtype)
        self.draw(sketch)
        return sketch.model()


PATTERNS: list[Pattern] = []


def pattern(row: str, **expected: object) -> Callable[[Draw], Draw]:
    """Enter a function that draws into the table; its name is the pattern's."""

    def enter(draw: Draw) -> Draw:
        PATTERNS.append(Pattern(row, draw.__name__, draw, **expected))  # type: ignore[arg-type]  # as in Pattern
        return draw

    return enter


def patterns() -> list[Pattern]:
    """Return all patterns, in the order of the table's rows."""
    # Each module enters its patterns as it is imported.
    for part in ("linear", "carried", "structure", "bodies"):
        importlib.import_module(f"tests.export.patterns_{part}")
    return sorted(PATTERNS, key=lambda entry: (int(entry.row.rstrip("abc")), entry.row))


def batch_norms(model: onnx.ModelProto) -> int:
    """Return the number of batch norms in all bodies of a model."""
    return sum(node.op_type == "BatchNormalization" for node in all_nodes(model))


def all_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes of the graph, of the bodies inside its nodes and of its functions."""
    pending = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    found = []
    while pending:
        node = pending.pop()
        found.append(node)
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.HasField("g") else attribute.graphs
            pending += [inner for body in bodies for inner in body.node]
    return found
