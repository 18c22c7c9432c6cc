"""Half precision: weights and activations in float16, pixels in and logits out as before."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.node import Node
from flatfold.contract.card import LOGITS_NAME
from flatfold.contract.errors import FlatfoldError

LARGEST = float(np.finfo(np.float16).max)


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the float16 version of an exported model; `model` stays as it is.

    Pixel values up to 255 are exact in float16. The logits are cast back to float32 before the
    softmax.

    Raises:
        FlatfoldError: a weight is too large for float16.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            largest = float(np.abs(values).max(initial=0))
            if largest > LARGEST:
                raise FlatfoldError(
                    f"{tensor.name} has a value of {largest:.3g}; float16 ends at {LARGEST:.0f}: "
                    "export with --precision fp32"
                )
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))
    for node in list(graph.node):
        if node.op_type == "Cast" and Node(node).attribute("to") == TensorProto.FLOAT:
            node.attribute[0].i = TensorProto.FLOAT16
        if LOGITS_NAME in node.output:
            node.output[list(node.output).index(LOGITS_NAME)] = "logits.half"
            back = helper.make_node(
                "Cast", ["logits.half"], [LOGITS_NAME], "logits.cast", to=TensorProto.FLOAT
            )
            graph.node.insert(list(graph.node).index(node) + 1, back)
    del graph.value_info[:]
    onnx.checker.check_model(half, full_check=True)
    return half
