"""Static quantisation: 8-bit weights and activations, written as QuantizeLinear/DequantizeLinear.

Activations are unsigned bytes with one scale each, weights signed bytes with one scale an output
channel, biases 32-bit at the product of the two scales. The pairs are placed so that onnxruntime
turns every convolution, addition, pool and matrix product into its integer kernel:

- every activation that such a node reads or writes is quantised, after its ReLU where there is
  one; a ReLU before an unsigned byte with zero point 0 is what the saturation does, and goes;
- a node that moves or selects values (MaxPool, Flatten, ...) keeps the storage of its input;
- the pixels are bytes already: DequantizeLinear with scale 1 takes the place of their Cast, and
  they enter the first convolution as they are (`pixels.py`);
- the logits stay float32, and so do the layers that the user names (`keep.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.graph_body import open_bodies
from export.precision.calibration import Activation, calibrate
from export.precision.keep import check_names, shield
from export.precision.pixels import absorb_shift
from export.rules.base import float_constant

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from export.node import Node

WEIGHTED = {"Conv", "Gemm"}
JOINING = {"Add", "Concat", "AveragePool", "GlobalAveragePool"}
MOVING = {"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}
FULL_RANGE = 127  # largest weight
REDUCED_RANGE = 63  # where pairs of products are summed in 16 bits, which 7-bit weights never fill
PIXELS = Activation(1.0, 0)


def quantise(
    model: onnx.ModelProto,
    images: NDArray[np.uint8],
    *,
    reduced_range: bool = False,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """Return the int8 version of `model`; `model` stays as it is.

    Args:
        model: float32, folded, uint8 pixels in.
        images: uint8 (n, height, width, 3), training pictures to calibrate on.
        reduced_range: weights of 7 bits, for processors without VNNI.
        keep_float: names of Conv, Gemm, MatMul and Add nodes to leave in float32.

    Raises:
        UsageError: `keep_float` names something else; lists what it may name.
    """
    check_names(model, keep_float)
    quantised = onnx.ModelProto()
    quantised.CopyFrom(model)
    weight_max = REDUCED_RANGE if reduced_range else FULL_RANGE
    _Quantiser(quantised, weight_max, keep_float).apply(model, images)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


class _Quantiser:
    """One pass over one graph: decide what is stored in bytes, then write the pairs."""

    def __init__(
        self, model: onnx.ModelProto, weight_max: int, keep_float: Collection[str]
    ) -> None:
        self.body = open_bodies(model)[0]
        self.weight_max = weight_max
        self.nodes = [node for node in self.body.nodes if node.name not in keep_float]
        self.kept = [node for node in self.body.nodes if node.name in keep_float]
        self.pixels = self._take_pixels()

    def apply(self, model: onnx.ModelProto, images: NDArray[np.uint8]) -> None:
        """Quantise; `model` is the untouched original that is calibrated."""
        stored = self._stored_values()
        # In the order of the graph: that of a set of texts differs from process to process.
        ordered = [name for node in self.body.nodes for name in node.outputs if name in stored]
        sources = sorted({self._source(name, stored) for name in stored} - self.pixels)
        storage = calibrate(model, sources, images)
        storage |= dict.fromkeys(self.pixels, PIXELS)
        activations = {name: storage[self._source(name, stored)] for name in ordered}
        for node in self.nodes:
            if self._is_weighted(node) and node.input(0) in activations:
                self._quantise_weights(node, activations[node.input(0)])
        for node in self.kept:
            if self._after_relu(node.output) in activations:
                shield(self.body, node)
        for name, activation in activations.items():
            if name not in self.pixels:
                self._insert_pair(name, activation)
        self._sort()
        self.body.tidy()

    def _take_pixels(self) -> set[str]:
        """Let DequantizeLinear do what the Cast of the uint8 pixels does; return its output."""
        taken = set()
        for node in self.nodes:
            if node.op_type == "Cast" and self._is_bytes(node.input(0)):
                absorb_shift(self.body, node, self.kept)
                scale = self.body.add_constant(np.array(PIXELS.scale, np.float32), "images.scale")
                zero = self.body.add_constant(np.array(PIXELS.zero_point, np.uint8), "images.zero")
                self.body.become(node, "DequantizeLinear", [node.input(0), scale, zero])
                taken.add(node.output)
        return taken

    def _is_bytes(self, name: str) -> bool:
        made_by = self.body.producer(name)
        if made_by is not None:
            return made_by.op_type in MOVING and self._is_bytes(made_by.input(0))
        return bool(self.body.element(name) == TensorProto.UINT8)

    def _stored_values(self) -> set[str]:
        """Return the names of the activations that become bytes."""
        stored: set[str] = set()
        for node in self.nodes:
            if self._is_weighted(node):
                stored.add(node.input(0))
                if node.op_type == "Conv":
                    stored.add(self._after_relu(node.output))
            elif node.op_type in JOINING:
                stored |= {name for name in node.inputs if self.body.constant(name) is None}
                stored.add(self._after_relu(node.output))
        for node in reversed(self.nodes):
            if node.op_type in MOVING and node.output in stored:
                stored.add(node.input(0))
        for node in self.nodes:
            if node.op_type in MOVING and node.input(0) in stored:
                stored.add(node.output)
        return stored

    def _is_weighted(self, node: Node) -> bool:
        """Whether `node` is a plain convolution or matrix product with constant weights."""
        if node.op_type not in WEIGHTED:
            return False
        plain = all(node.attribute(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        constant = all(self.body.constant(name) is not None for name in node.inputs[1:])
        return plain and constant and not node.attribute("transA", 0)

    def _after_relu(self, name: str) -> str:
        """Return the output of the ReLU that alone reads `name`, or `name` itself."""
        reader = self.body.only_reader(name)
        return reader.output if reader is not None and reader.op_type == "Relu" else name

    def _source(self, name: str, stored: set[str]) -> str:
        """Return the value whose storage `name` shares: the one before all moving nodes."""
        node = self.body.producer(name)
        if node is not None and node.op_type in MOVING and node.input(0) in stored:
            return self._source(node.input(0), stored)
        return name

    def _quantise_weights(self, node: Node, activation: Activation) -> None:
        weight = float_constant(self.body, node, 1, "weight")
        axis = 1 if node.op_type == "Gemm" and not node.attribute("transB", 0) else 0
        others = tuple(other for other in range(weight.ndim) if other != axis)
        largest = np.abs(weight.astype(np.float64)).max(axis=others)
        scale = (np.where(largest > 0, largest, 1.0) / self.weight_max).astype(np.float32)
        shape = [-1 if index == axis else 1 for index in range(weight.ndim)]
        steps = weight.astype(np.float64) / scale.reshape(shape)
        rounded = np.clip(np.rint(steps), -self.weight_max, self.weight_max).astype(np.int8)
        self._dequantise(node, 1, rounded, scale, axis)
        if node.input(2):
            bias = float_constant(self.body, node, 2, "bias")
            unit = np.float32(activation.scale) * scale
            limit = np.iinfo(np.int32)
            whole = np.clip(np.rint(bias / unit.astype(np.float64)), limit.min, limit.max)
            self._dequantise(node, 2, whole.astype(np.int32), unit, 0)

    def _dequantise(
        self,
        node: Node,
        slot: int,
        values: NDArray[np.generic],
        scale: NDArray[np.float32],
        axis: int,
    ) -> None:
        """Feed input `slot` of `node` from integers through a DequantizeLinear of its own."""
        stem = f"{node.name}.{('', 'weight', 'bias')[slot]}"
        inputs = [
            self.body.add_constant(values, f"{stem}.quantised"),
            self.body.add_constant(scale, f"{stem}.scale"),
            self.body.add_constant(np.zeros(len(scale), values.dtype), f"{stem}.zero"),
        ]
        name = f"{stem}.dequantised"
        self.body.insert(helper.make_node("DequantizeLinear", inputs, [name], name, axis=axis))
        self.body.set_input(node, slot, name)

    def _insert_pair(self, name: str, activation: Activation) -> None:
        """Store the value `name` in bytes: quantise it, and let all its readers dequantise it.

        A reader that is kept in float reads the value as it is where a kept node makes it.
        """
        before = self.body.producer(name)
        if before is not None and before.op_type == "Relu" and activation.zero_point == 0:
            source = before.input(0)  # the saturation at byte 0 is the ReLU
        else:
            source = name
        float_readers = self.kept if self._is_made_in_float(name) else ()
        parameters = [
            self.body.add_constant(np.array(activation.scale, np.float32), f"{name}.scale"),
            self.body.add_constant(np.array(activation.zero_point, np.uint8), f"{name}.zero"),
        ]
        stored, back = f"{name}.quantised", f"{name}.dequantised"
        self.body.redirect(name, back, but=float_readers)
        self.body.insert(
            helper.make_node("QuantizeLinear", [source, *parameters], [stored], stored)
        )
        self.body.insert(helper.make_node("DequantizeLinear", [stored, *parameters], [back], back))

    def _is_made_in_float(self, name: str) -> bool:
        """Whether a kept node makes `name`, alone or with what stands right behind it."""
        before = self.body.producer(name)
        while before is not None and before.op_type in {"Relu", "LeakyRelu"}:
            before = self.body.producer(before.input(0))
        return before in self.kept

    def _sort(self) -> None:
        """Put the nodes in an order in which each reads what is there already."""
        unmade = {name for node in self.body.nodes for name in node.outputs}
        waiting, ordered = self.body.nodes, []
        while waiting:
            ready = [node for node in waiting if unmade.isdisjoint(node.inputs)]
            ordered += [node.proto for node in ready]
            unmade.difference_update(*(node.outputs for node in ready))
            waiting = [node for node in waiting if not unmade.isdisjoint(node.outputs)]
        del self.body.proto.node[:]
        self.body.proto.node.extend(ordered)
        self.body.reindex()
