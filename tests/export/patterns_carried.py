"""Rows 7-10, 17-19: something stands between the layer and its batch norm."""

from __future__ import annotations

import numpy as np

from tests.export.patterns import pattern


def _conv(s, outputs: int = 4, **settings) -> str:
    return s.conv(s.input("N", 3, 8, 8), 3, outputs, **settings)


@pattern("7")
def max_pool_positive(s):
    pooled = s.op("MaxPool", _conv(s), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    s.output(s.batch_norm(pooled, 4, gamma="positive"))


@pattern("7")
def global_max_pool_positive(s):
    s.output(s.batch_norm(s.op("GlobalMaxPool", _conv(s)), 4, gamma="positive"))


@pattern("7b")
def resize_nearest(s):
    scales = s.constant(np.array([1, 1, 2, 2]), dtype=np.float32)
    s.output(s.batch_norm(s.op("Resize", _conv(s), "", scales, mode="nearest"), 4))


@pattern("7b")
def depth_to_space_dcr(s):
    s.output(s.batch_norm(s.op("DepthToSpace", _conv(s, 12), blocksize=2), 3))


@pattern("7b")
def depth_to_space_crd(s):
    shuffled = s.op("DepthToSpace", _conv(s, 12), blocksize=2, mode="CRD")
    s.output(s.batch_norm(shuffled, 3))


@pattern("7b")
def flatten_from_one_pixel(s):
    s.output(s.batch_norm(s.op("Flatten", _conv(s, 5, kernel=(8, 8))), 5))


@pattern("7b")
def squeeze_from_one_pixel(s):
    axes = s.constant(np.array([2, 3]))
    s.output(s.batch_norm(s.op("Squeeze", _conv(s, 5, kernel=(8, 8)), axes), 5))


@pattern("7b")
def matmul_transpose(s):
    product = s.op("MatMul", s.input("N", 6, 7), s.constant(s.normal(7, 5)))
    s.output(s.batch_norm(s.op("Transpose", product, perm=[0, 2, 1]), 5))


@pattern("7c", left=1)
def flatten_from_a_map(s):
    s.output(s.batch_norm(s.op("Flatten", _conv(s, 2, kernel=(7, 7))), 8))


@pattern("8", left=1)
def max_pool_negative(s):
    pooled = s.op("MaxPool", _conv(s), kernel_shape=[2, 2])
    s.output(s.batch_norm(pooled, 4))


@pattern("8", left=1)
def global_max_pool_negative(s):
    s.output(s.batch_norm(s.op("GlobalMaxPool", _conv(s)), 4))


@pattern("9")
def average_pool(s):
    s.output(s.batch_norm(s.op("AveragePool", _conv(s), kernel_shape=[2, 2]), 4))


@pattern("9")
def average_pool_padding_not_counted(s):
    pooled = s.op("AveragePool", _conv(s), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    s.output(s.batch_norm(pooled, 4))


@pattern("9")
def global_average_pool(s):
    s.output(s.batch_norm(s.op("GlobalAveragePool", _conv(s)), 4))


@pattern("10", left=1)
def average_pool_padding_counted(s):
    pooled = s.op(
        "AveragePool", _conv(s), kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    )
    s.output(s.batch_norm(pooled, 4))


@pattern("17")
def concat_of_convs(s):
    x = s.input("N", 3, 6, 6)
    joined = s.op("Concat", s.conv(x, 3, 2), s.conv(x, 3, 5, bias=True), axis=1)
    s.output(s.batch_norm(joined, 7))


@pattern("18")
def sum_of_convs(s):
    x, z = s.input("N", 3, 6, 6), s.input("N", 3, 6, 6, name="z")
    s.output(s.batch_norm(s.op("Add", s.conv(x, 3, 4), s.conv(z, 3, 4, bias=True)), 4))


@pattern("19", left=1)
def sum_with_skip(s):
    x = s.input("N", 4, 6, 6)
    s.output(s.batch_norm(s.op("Add", s.op("Relu", s.conv(x, 4, 4, (1, 1))), x), 4))


@pattern("19", left=1)
def concat_with_input(s):
    x = s.input("N", 3, 6, 6)
    joined = s.op("Concat", s.conv(x, 3, 4, (1, 1)), x, axis=1)
    s.output(s.batch_norm(joined, 7))


@pattern("19", left=1)
def pre_activation(s):
    active = s.op("Relu", s.batch_norm(s.input("N", 3, 6, 6), 3))
    s.output(s.conv(active, 3, 4))
