"""Rows 1-6, 11-13: a batch norm beside a linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tests.export.patterns import pattern

if TYPE_CHECKING:
    from tests.export.sketch import Sketch


def _conv_2d(s: Sketch, inputs: int = 4, outputs: int = 6, **settings) -> None:
    x = s.input("N", inputs, 9, 8)
    s.output(s.batch_norm(s.conv(x, inputs, outputs, **settings), outputs))


@pattern("1")
def conv_1d(s):
    s.output(s.batch_norm(s.conv(s.input("N", 3, 9), 3, 5, (3,)), 5))


@pattern("1")
def conv_2d(s):
    _conv_2d(s)


@pattern("1")
def conv_2d_bias(s):
    _conv_2d(s, bias=True)


@pattern("1")
def conv_3d(s):
    s.output(s.batch_norm(s.conv(s.input("N", 2, 5, 6, 7), 2, 4, (2, 3, 3), bias=True), 4))


@pattern("1")
def conv_grouped(s):
    _conv_2d(s, group=2)


@pattern("1")
def conv_depthwise(s):
    _conv_2d(s, 4, 8, group=4, pads=[1, 1, 1, 1])


@pattern("1")
def conv_dilated(s):
    _conv_2d(s, dilations=[2, 2])


@pattern("1")
def conv_strided(s):
    _conv_2d(s, strides=[2, 2], pads=[1, 1, 1, 1])


@pattern("1")
def conv_asymmetric_pads(s):
    _conv_2d(s, pads=[0, 1, 2, 1])


@pattern("1")
def conv_auto_pad(s):
    _conv_2d(s, auto_pad="SAME_UPPER")


@pattern("2")
def conv_transpose_1d(s):
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6), 3, 4, (3,), transpose=True), 4))


@pattern("2")
def conv_transpose_2d(s):
    x = s.input("N", 3, 5, 6)
    s.output(s.batch_norm(s.conv(x, 3, 4, transpose=True, bias=True, strides=[2, 2]), 4))


@pattern("2")
def conv_transpose_3d(s):
    x = s.input("N", 2, 3, 4, 3)
    s.output(s.batch_norm(s.conv(x, 2, 4, (2, 2, 2), transpose=True), 4))


@pattern("2", reference=False)
def conv_transpose_grouped(s):
    x = s.input("N", 4, 5, 6)
    s.output(s.batch_norm(s.conv(x, 4, 6, transpose=True, group=2, bias=True), 6))


@pattern("3")
def gemm(s):
    weight, bias = s.constant(s.normal(7, 5)), s.constant(s.normal(5))
    s.output(s.batch_norm(s.op("Gemm", s.input("N", 7), weight, bias), 5))


@pattern("3")
def gemm_without_addend(s):
    weight = s.constant(s.normal(5, 7))
    s.output(s.batch_norm(s.op("Gemm", s.input("N", 7), weight, transB=1), 5))


@pattern("3")
def gemm_scaled_transposed(s):
    weight, bias = s.constant(s.normal(5, 7)), s.constant(s.normal(1, 5))
    product = s.op("Gemm", s.input(7, 3), weight, bias, transA=1, transB=1, alpha=0.7, beta=-1.5)
    s.output(s.batch_norm(product, 5))


@pattern("3")
def matmul(s):
    s.output(s.batch_norm(s.op("MatMul", s.input("N", 7), s.constant(s.normal(7, 5))), 5))


@pattern("3")
def matmul_add(s):
    product = s.op("MatMul", s.input("N", 7), s.constant(s.normal(7, 5)))
    s.output(s.batch_norm(s.op("Add", product, s.constant(s.normal(5))), 5))


@pattern("4")
def conv_identity(s):
    conv = s.op("Identity", s.conv(s.input("N", 3, 6, 6), 3, 4))
    s.output(s.batch_norm(conv, 4))


@pattern("4")
def conv_dropout(s):
    conv = s.op("Dropout", s.conv(s.input("N", 3, 6, 6), 3, 4))
    s.output(s.batch_norm(conv, 4))


@pattern("5")
def conv_add(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.batch_norm(s.op("Add", s.constant(s.normal(1, 4, 1, 1)), conv), 4))


@pattern("5")
def conv_subtracted(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.batch_norm(s.op("Sub", s.constant(s.normal(4, 1, 1)), conv), 4))


@pattern("5")
def conv_mul(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4, bias=True)
    s.output(s.batch_norm(s.op("Mul", conv, s.constant(s.normal(4, 1, 1))), 4))


@pattern("5")
def conv_div_scalar(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.batch_norm(s.op("Div", conv, s.constant(np.array(-2.5))), 4))


@pattern("5")
def conv_frozen_batch_norm(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    scaled = s.op("Mul", conv, s.constant(s.normal(1, 4, 1, 1)))
    s.output(s.op("Add", scaled, s.constant(s.normal(1, 4, 1, 1))))


@pattern("6")
def conv_two_batch_norms(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    s.output(s.batch_norm(s.batch_norm(conv, 4), 4))


@pattern("11")
def forward_conv(s):
    s.output(s.conv(s.batch_norm(s.input("N", 4, 6, 6), 4), 4, 6))


@pattern("11")
def forward_conv_grouped(s):
    s.output(s.conv(s.batch_norm(s.input("N", 4, 6, 6), 4), 4, 6, group=2, bias=True))


@pattern("11")
def forward_gemm(s):
    normed = s.batch_norm(s.input("N", 7), 7)
    s.output(s.op("Gemm", normed, s.constant(s.normal(7, 5)), s.constant(s.normal(5)), alpha=0.5))


@pattern("11")
def forward_matmul(s):
    normed = s.batch_norm(s.input("N", 7), 7)
    s.output(s.op("MatMul", normed, s.constant(s.normal(7, 5))))


@pattern("11")
def forward_flatten_gemm(s):
    flat = s.op("Flatten", s.batch_norm(s.input("N", 3, 2, 2), 3))
    s.output(s.op("Gemm", flat, s.constant(s.normal(5, 12)), s.constant(s.normal(5)), transB=1))


@pattern("12", left=1)
def forward_conv_padded(s):
    normed = s.batch_norm(s.input("N", 3, 6, 6), 3)
    s.output(s.conv(normed, 3, 4, pads=[1, 1, 1, 1]))


@pattern("12")
def forward_conv_padded_without_shift(s):
    gamma, variance = s.normal(3), s.random.uniform(0.3, 2, 3)
    parameters = [s.constant(value) for value in (gamma, np.zeros(3), np.zeros(3), variance)]
    normed = s.op("BatchNormalization", s.input("N", 3, 6, 6), *parameters, epsilon=1e-2)
    s.output(s.conv(normed, 3, 4, pads=[1, 1, 1, 1]))


@pattern("12b", left=1)
def forward_conv_transpose(s):
    normed = s.batch_norm(s.input("N", 3, 5, 5), 3)
    s.output(s.conv(normed, 3, 4, transpose=True, strides=[2, 2]))


@pattern("13")
def conv_relu_batch_norm_conv(s):
    active = s.op("Relu", s.conv(s.input("N", 3, 8, 8), 3, 4))
    s.output(s.conv(s.batch_norm(active, 4), 4, 5))
