"""Graphs drawn at random: the fold computes the same, whatever meets whatever."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from export.folding import fold_model
from tests.export.oracle import feeds, run_onnxruntime, worst_error
from tests.export.patterns import batch_norms
from tests.export.sketch import Sketch

CHANNELS, SIDE = 4, 6


class _Grower:
    """A graph that grows by one random operator at a time; all values are (N, 4, 6, 6)."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.s = Sketch(opset=int(self.random.choice([13, 17, 18])), seed=seed)
        self.values = [self.s.input("N", CHANNELS, SIDE, SIDE)]

    def grow(self) -> None:
        """Add an operator that reads the newest value, or now and then an older one."""
        newest = self.random.random() < 0.8
        x = self.values[-1] if newest else str(self.random.choice(self.values))
        self.values.append(getattr(self, str(self.random.choice(_KINDS)))(x))

    def constant(self) -> str:
        """Return a constant that broadcasts to a value's shape, away from 0."""
        shapes = [(), (1,), (CHANNELS, 1, 1), (1, CHANNELS, 1, 1), (SIDE,), (1, 1, SIDE, 1)]
        shape = shapes[self.random.integers(len(shapes))]
        value = self.random.uniform(0.5, 2, shape) * self.random.choice([-1, 1], shape)
        return self.s.constant(np.asarray(value))

    def convolution(self, x: str) -> str:
        size = int(self.random.choice([1, 3]))
        settings = {"pads": [size // 2] * 4, "group": int(self.random.choice([1, 2, 4]))}
        transpose, bias = self.random.random(2) < (0.2, 0.5)
        kernel = (size, size)
        return self.s.conv(
            x, CHANNELS, CHANNELS, kernel, bias=bias, transpose=transpose, **settings
        )

    def batch_norm(self, x: str) -> str:
        return self.s.batch_norm(x, CHANNELS)

    def arithmetic(self, x: str) -> str:
        kind = str(self.random.choice(["Add", "Sub", "Mul", "Div"]))
        operands = [x, self.constant()]
        turned = kind != "Div" and self.random.random() < 0.5
        return self.s.op(kind, *(reversed(operands) if turned else operands))

    def unary(self, x: str) -> str:
        return self.s.op(str(self.random.choice(["Relu", "Identity", "Tanh"])), x)

    def pool(self, x: str) -> str:
        kind = str(self.random.choice(["MaxPool", "AveragePool"]))
        return self.s.op(kind, x, kernel_shape=[3, 3], pads=[1] * 4)

    def pad_and_crop(self, x: str) -> str:
        """Pad one axis of four with zeros or the edge's values, and cut one end off again."""
        axis = int(self.random.integers(1, 4))
        pads = np.zeros(8, np.int64)
        pads[axis] = 1
        mode = str(self.random.choice(["constant", "edge"]))
        padded = self.s.op("Pad", x, self.s.constant(pads), mode=mode)
        ends = [self.s.constant(np.array([number])) for number in (0, -1, axis)]
        return self.s.op("Slice", padded, *ends)

    def product(self, x: str) -> str:
        matrix = self.s.constant(self.s.normal(SIDE, SIDE))
        return self.s.op("MatMul", *((x, matrix) if self.random.random() < 0.5 else (matrix, x)))

    def turn(self, x: str) -> str:
        return self.s.op("Transpose", x, perm=[0, 1, 3, 2])

    def join(self, x: str) -> str:
        other = str(self.random.choice(self.values))
        if self.random.random() < 0.5:
            return self.s.op("Add", x, other)
        halves = self.s.op("Concat", x, other, axis=1)
        return self.s.conv(halves, 2 * CHANNELS, CHANNELS, (1, 1))


_KINDS = [name for name in vars(_Grower) if not name.startswith("_")]
_KINDS = [name for name in _KINDS if name not in {"grow", "constant"}] + ["batch_norm"] * 4


@pytest.mark.parametrize("seed", range(120))
def test_a_random_graph_folds_right(seed):
    grower = _Grower(seed)
    for _ in range(8):
        grower.grow()
    grower.s.output(grower.values[-1])
    model = grower.s.model()
    before = model.SerializeToString()

    folded, report = fold_model(model)

    assert model.SerializeToString() == before
    assert len(report.kept) == batch_norms(folded)
    assert len(folded.graph.node) <= len(model.graph.node)
    onnx.checker.check_model(folded, full_check=True)
    assert fold_model(folded)[0].SerializeToString() == folded.SerializeToString()
    inputs = feeds(model)
    assert worst_error(run_onnxruntime(model, inputs), run_onnxruntime(folded, inputs)) < 1e-3
