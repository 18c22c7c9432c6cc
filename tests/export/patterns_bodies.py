"""Rows 27-31: bodies of control flow, foreign operators, computed constants, opsets."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.export.patterns import pattern
from tests.export.sketch import Sketch


def _body(s: Sketch, nodes_of, name: str) -> onnx.GraphProto:
    """Return a branch with weights of its own."""
    inner = Sketch(opset=s.opset, seed=5, dtype=s.dtype)
    result = nodes_of(inner)
    for node in inner.nodes:  # names are unique in the whole model
        node.name = f"{name}/{node.name}"
    renamed = {value: f"{name}/{value}" for node in inner.nodes for value in node.output}
    renamed |= {tensor.name: f"{name}/{tensor.name}" for tensor in inner.initializers}
    for node in inner.nodes:
        for values in (node.input, node.output):
            values[:] = [renamed.get(value, value) for value in values]
    for tensor in inner.initializers:
        tensor.name = renamed[tensor.name]
    output = helper.make_tensor_value_info(renamed[result], s.element, None)
    return helper.make_graph(inner.nodes, name, [], [output], inner.initializers)


@pattern("27")
def both_inside_if(s):
    x = s.input("N", 3, 6, 6)
    flag = s.input(name="flag", element=TensorProto.BOOL)
    then = _body(s, lambda b: b.batch_norm(b.conv(x, 3, 4), 4), "then")
    other = _body(s, lambda b: b.conv(x, 3, 4), "other")
    s.output(s.op("If", flag, then_branch=then, else_branch=other))


@pattern("27", reference=False)
def both_inside_loop(s):
    """The body carries a picture round and reads its filter from outside."""
    x = s.input("N", 3, 6, 6)
    trips, going = s.constant(np.array(2)), s.constant(np.array(True))
    weight, statistics = s.constant(s.normal(3, 3, 3, 3)), s.statistics(3)
    nodes = [
        helper.make_node("Identity", ["going_in"], ["going_out"]),
        helper.make_node("Conv", ["carried", weight], ["conv"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["conv", *statistics], ["normed"], name="bn"),
        helper.make_node("Tanh", ["normed"], ["carried_on"]),
    ]
    infos = {
        "trip": helper.make_tensor_value_info("trip", TensorProto.INT64, []),
        "going_in": helper.make_tensor_value_info("going_in", TensorProto.BOOL, []),
        "carried": helper.make_tensor_value_info("carried", s.element, ["N", 3, 6, 6]),
        "going_out": helper.make_tensor_value_info("going_out", TensorProto.BOOL, []),
        "carried_on": helper.make_tensor_value_info("carried_on", s.element, ["N", 3, 6, 6]),
    }
    entries = list(infos.values())
    body = helper.make_graph(nodes, "body", entries[:3], entries[3:])
    s.output(s.op("Loop", trips, going, x, body=body), shape=["N", 3, 6, 6])


@pattern("27", left=1)
def conv_outside_if(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    flag = s.input(name="flag", element=TensorProto.BOOL)
    then = _body(s, lambda b: b.batch_norm(conv, 4), "then")
    other = _body(s, lambda b: b.op("Identity", conv), "other")
    s.output(s.op("If", flag, then_branch=then, else_branch=other))


@pattern("27")
def both_inside_function(s):
    x = s.input("N", 3, 6, 6)
    inner = Sketch(opset=s.opset, seed=5, dtype=s.dtype)
    inner.parameters_as_nodes = True
    result = inner.batch_norm(inner.conv("a", 3, 4), 4)
    imports = [helper.make_opsetid("", s.opset)]
    s.functions.append(
        helper.make_function("local", "Block", ["a"], [result], inner.nodes, imports)
    )
    s.output(s.op("Block", x, domain="local"))


@pattern("28")
def other_normalisations(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    value = s.op("InstanceNormalization", conv, s.constant(s.normal(4)), s.constant(s.normal(4)))
    value = s.op("LayerNormalization", value, s.constant(s.normal(4)), axis=-1)
    s.output(s.op("LpNormalization", value, axis=1))


@pattern("29", left=1, opset=19)
def quantised_between(s):
    conv = s.conv(s.input("N", 3, 6, 6), 3, 4)
    scale, zero = s.constant(np.array(0.05)), s.constant(np.array(3, np.int8))
    stored = s.op("QuantizeLinear", conv, scale, zero)
    s.output(s.batch_norm(s.op("DequantizeLinear", stored, scale, zero), 4))


@pattern("30")
def computed_zero_bias(s):
    x, weight = s.input("N", 3, 6, 6), s.constant(s.normal(4, 3, 3, 3))
    count = s.op("Shape", weight, start=0, end=1)
    one = s.constant(np.array([1]))
    zeros = s.op("Expand", s.constant(np.zeros(1)), s.op("Expand", count, one))
    s.output(s.batch_norm(s.op("Conv", x, weight, s.op("CastLike", zeros, x)), 4))


@pattern("30")
def computed_weight(s):
    x, weight = s.input("N", 3, 6, 6), s.constant(s.normal(3, 4, 3, 3))
    turned = s.op("Transpose", weight, perm=[1, 0, 2, 3])
    scaled = s.op("Mul", turned, s.constant(s.normal(4, 1, 1, 1)))
    s.output(s.batch_norm(s.op("Conv", x, scaled), 4))


@pattern("31", opset=7, reference=False)
def opset_7(s):
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6, 6), 3, 4, bias=True), 4))


@pattern("31", opset=onnx.defs.onnx_opset_version(), runs=False)
def newest_opset(s):
    s.output(s.batch_norm(s.conv(s.input("N", 3, 6, 6), 3, 4, bias=True), 4))
