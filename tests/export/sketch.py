"""A short way to write small ONNX models with random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

IR_VERSION_OF_OPSET = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8}


class Sketch:
    """Nodes, initializers, inputs and outputs, added one by one.

    Args:
        opset: version of ONNX's operators.
        seed: of the random weights.
        dtype: of the weights and inputs.
    """

    def __init__(self, opset: int = 17, seed: int = 0, dtype: Any = np.float32) -> None:
        self.opset = opset
        self.dtype = np.dtype(dtype)
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.parameters_as_nodes = False

    @property
    def element(self) -> int:
        return helper.np_dtype_to_tensor_dtype(self.dtype)

    def input(self, *shape: int | str, name: str = "x", element: int | None = None) -> str:
        self.inputs.append(
            helper.make_tensor_value_info(name, element or self.element, list(shape))
        )
        return name

    def output(self, *values: str, shape: list[int] | None = None) -> None:
        for value in values:
            self.outputs.append(helper.make_tensor_value_info(value, self.element, shape))

    def normal(self, *shape: int, dtype: Any = None) -> np.ndarray:
        return self.random.standard_normal(shape).astype(dtype or self.dtype)

    def constant(self, value: Any, name: str | None = None, dtype: Any = None) -> str:
        array = np.asarray(value)
        array = array.astype(dtype or (self.dtype if array.dtype.kind == "f" else array.dtype))
        name = name or f"const_{len(self.initializers) + len(self.nodes)}"
        tensor = numpy_helper.from_array(array, name)
        if self.parameters_as_nodes:
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def op(
        self, op_type: str, *inputs: str, name: str | None = None, outputs: int = 1, **attrs: Any
    ) -> Any:
        """Add a node named after its operator; return its output, or a tuple of them."""
        same = sum(node.op_type == op_type for node in self.nodes)
        name = name or f"{op_type.lower()}_{same}"
        values = [f"{name}_out{'' if i == 0 else i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), values, name=name, **attrs))
        return values[0] if outputs == 1 else tuple(values)

    def conv(
        self,
        x: str,
        inputs: int,
        outputs: int,
        kernel: tuple[int, ...] = (3, 3),
        *,
        group: int = 1,
        bias: bool = False,
        transpose: bool = False,
        **attrs: Any,
    ) -> str:
        """Add a Conv or ConvTranspose with random filters."""
        ends = (inputs, outputs // group) if transpose else (outputs, inputs // group)
        operands = [x, self.constant(self.normal(*ends, *kernel))]
        if bias:
            operands.append(self.constant(self.normal(outputs)))
        op_type = "ConvTranspose" if transpose else "Conv"
        return self.op(op_type, *operands, kernel_shape=list(kernel), group=group, **attrs)

    def statistics(self, channels: int, *, gamma: str = "mixed", dtype: Any = None) -> list[str]:
        """Add the four parameters of a batch norm; `gamma` is mixed, positive or plain."""
        scale = self.normal(channels) + np.sign(self.normal(channels))
        scale = {"mixed": scale, "positive": abs(scale), "plain": np.ones(channels)}[gamma]
        if gamma == "mixed":
            scale[0] = -abs(scale[0])
        variance = self.random.uniform(0.3, 2, channels)
        values = (scale, self.normal(channels), self.normal(channels), variance)
        return [self.constant(value, dtype=dtype or self.dtype) for value in values]

    def batch_norm(self, x: str, channels: int, *, gamma: str = "mixed", **attrs: Any) -> str:
        """Add a BatchNormalization with random running statistics."""
        attrs.setdefault("epsilon", 1e-2)  # large, so that a lost one shows
        return self.op("BatchNormalization", x, *self.statistics(channels, gamma=gamma), **attrs)

    def model(self, **fields: Any) -> onnx.ModelProto:
        """Return the model; its outputs' shapes are left to inference."""
        graph = helper.make_graph(
            self.nodes, "sketch", self.inputs, self.outputs, self.initializers
        )
        ir_version = IR_VERSION_OF_OPSET.get(self.opset, 10)
        if ir_version < 4:  # every initializer is an input, too
            for tensor in self.initializers:
                graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                )
        imports = [helper.make_opsetid("", self.opset)]
        if self.functions:
            imports.append(helper.make_opsetid("local", 1))
        model = helper.make_model(
            graph, opset_imports=imports, ir_version=ir_version, functions=self.functions, **fields
        )
        inferred = onnx.shape_inference.infer_shapes(model)
        del model.graph.output[:]
        model.graph.output.extend(inferred.graph.output)
        return model
