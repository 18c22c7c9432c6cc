"""Rows 14-16 and 20-26: sharing, branches, parameters and dtypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto

from tests.export.patterns import pattern

if TYPE_CHECKING:
    from tests.export.sketch import Sketch


def _conv_batch_norm(s: Sketch, parameters: list[str], **attrs) -> None:
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.op("BatchNormalization", conv, *parameters, **attrs))


@pattern("14", left=1)
def two_consumers(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.batch_norm(conv, 4), s.op("Relu", conv))


@pattern("14", left=1)
def conv_is_an_output(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.batch_norm(conv, 4), conv)


@pattern("15")
def shared_weight(s):
    x, weight = s.input("N", 3, 6, 6), s.constant(s.normal(4, 3, 3, 3))
    s.output(*(s.batch_norm(s.op("Conv", x, weight, pads=[p] * 4), 4) for p in (0, 1)))


@pattern("16")
def one_call_of_two(s):
    x, weight = s.input("N", 3, 6, 6), s.constant(s.normal(3, 3, 3, 3))
    first = s.batch_norm(s.op("Conv", x, weight, pads=[1] * 4), 3)
    s.output(s.op("Conv", s.op("Relu", first), weight))


@pattern("20")
def repvgg(s):
    x = s.op("Relu", s.input("N", 4, 6, 6))
    three = s.batch_norm(s.conv(x, 4, 4, pads=[1] * 4), 4)
    one = s.batch_norm(s.conv(x, 4, 4, (1, 1)), 4)
    s.output(s.op("Relu", s.op("Add", s.op("Add", three, one), s.batch_norm(x, 4))))


@pattern("20")
def repvgg_grouped(s):
    x = s.op("Relu", s.input("N", 4, 6, 6))
    three = s.batch_norm(s.conv(x, 4, 4, pads=[1] * 4, group=2), 4)
    one = s.batch_norm(s.conv(x, 4, 4, (1, 1), group=2), 4)
    s.output(s.op("Add", s.batch_norm(x, 4), s.op("Add", one, three)))


@pattern("20")
def acnet(s):
    x = s.input("N", 3, 6, 6)
    square = s.batch_norm(s.conv(x, 3, 4, pads=[1, 1, 1, 1]), 4)
    wide = s.batch_norm(s.conv(x, 3, 4, (1, 3), pads=[0, 1, 0, 1]), 4)
    tall = s.batch_norm(s.conv(x, 3, 4, (3, 1), pads=[1, 0, 1, 0]), 4)
    s.output(s.op("Add", square, s.op("Add", wide, tall)))


@pattern("21")
def affine_false(s):
    ones, zeros = s.constant(np.ones(4)), s.constant(np.zeros(4))
    statistics = s.statistics(4)[2:]
    _conv_batch_norm(s, [ones, zeros, *statistics])


@pattern("21")
def parameters_from_constant_nodes(s):
    s.parameters_as_nodes = True
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6, 6), 3, 4, bias=True), 4))


@pattern("21")
def parameters_shared_by_two(s):
    x, shared = s.input("N", 3, 6, 6), s.statistics(4)
    s.output(*(s.op("BatchNormalization", s.conv(x, 3, 4), *shared) for _ in range(2)))


@pattern("22", left=1)
def parameters_are_inputs(s):
    x = s.input("N", 3, 6, 6)
    scale, bias = (s.input(4, name=name) for name in ("scale", "bias"))
    parameters = [scale, bias, *s.statistics(4)[2:]]
    s.output(s.op("BatchNormalization", s.conv(x, 3, 4), *parameters))


@pattern("22", left=1)
def parameters_computed(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    axes = s.constant(np.array([0, 2, 3]))
    scale = s.op("Squeeze", s.op("ReduceMax", s.input(1, 4, 1, 1, name="z"), axes=[0]), axes)
    s.output(s.op("BatchNormalization", conv, scale, *s.statistics(4)[1:]))


@pattern("23", left=1)
def training_mode(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    values = s.op("BatchNormalization", conv, *s.statistics(4), outputs=3, training_mode=1)
    s.output(*values)


@pattern("23", left=1, opset=9, runs=False, reference=False)
def several_outputs(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    values = s.op("BatchNormalization", conv, *s.statistics(4), outputs=5)
    s.output(values[0])
    s.output(values[1], shape=[4])


def _broken(s: Sketch, slot: int, value: float, **attrs) -> None:
    values = [s.normal(4), s.normal(4), s.normal(4), s.random.uniform(0.3, 2, 4)]
    values[slot][2] = value
    _conv_batch_norm(s, [s.constant(array) for array in values], **attrs)


@pattern("24", refused=True, left=1)
def scale_is_nan(s):
    _broken(s, 0, np.nan)


@pattern("24", refused=True, left=1)
def mean_is_infinite(s):
    _broken(s, 2, np.inf)


@pattern("24", refused=True, left=1)
def variance_is_negative(s):
    _broken(s, 3, -1e-3)


@pattern("24", refused=True, left=1)
def variance_and_epsilon_are_zero(s):
    _broken(s, 3, 0.0, epsilon=0.0)


@pattern("25")
def float16(s):
    s.dtype = np.dtype(np.float16)
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6, 6), 3, 4), 4))


@pattern("25", opset=22, runs=False)
def bfloat16(s):
    s.dtype = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6, 6), 3, 4), 4))


@pattern("25")
def float16_with_float32_statistics(s):
    s.dtype = np.dtype(np.float16)
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4, bias=True)
    s.output(s.op("BatchNormalization", conv, *s.statistics(4, dtype=np.float32)))


@pattern("26", left=1)
def float16_overflow(s):
    s.dtype = np.dtype(np.float16)
    tiny = s.op("Mul", s.input("N", 3, 6, 6), s.constant(np.array(1e-4)))
    conv = s.op("Conv", s.op("Relu", tiny), s.constant(2e4 + s.normal(4, 3, 3, 3)))
    scale, bias, mean, _ = s.statistics(4)
    variance = s.constant(np.full(4, 1e-2))
    s.output(s.op("BatchNormalization", conv, scale, bias, mean, variance, epsilon=0.0))
