"""What the rules see of one body: its index, its constants, its shapes, its place in the model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from export import graph_constants
from export.graph import Graph
from export.graph_shapes import ValueType, bodies, infer_types
from export.node import DEFAULT_DOMAINS, Blocked, Node
from export.tensors import FLOAT_TYPES, read_tensor, spill

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import FunctionProto, GraphProto, ModelProto

CACHED_ELEMENTS = 1 << 16
# Operators whose first output has the shape of their first input.
_SHAPE_KEEPERS = frozenset(
    ("BatchNormalization", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "Identity", "Dropout")
)
# Operators that keep rank and channels, and change the sizes behind them.
_CHANNEL_KEEPERS = frozenset(
    ("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "LpPool")
)


@dataclass(frozen=True)
class ModelFacts:
    """What all bodies of a model share.

    Attributes:
        opset: version of ONNX's own operators in the model; a function may name another.
        ir_version: from 4 on, an initializer that is an input as well is only a default;
            before, every initializer had to be an input.
        names: every name in the model; fresh ones are added.
        folder: where external data lies.
    """

    opset: int
    ir_version: int
    names: set[str]
    folder: Path | None


class Body(Graph):
    """A body with its constants and shapes.

    Attributes:
        opset: version of ONNX's own operators in force in the body.
        parent: the body around it; values that are not its own come from there.
    """

    def __init__(
        self,
        proto: GraphProto | FunctionProto,
        model: ModelFacts,
        types: dict[str, ValueType],
        parent: Body | None = None,
    ) -> None:
        """Index `proto`, whose values have the inferred `types`, in `parent`'s scope."""
        self.parent = parent
        self._model = model
        self._types = types
        self._evaluated: dict[str, NDArray[Any] | None] = {}
        super().__init__(proto)
        around = parent.opset if parent else model.opset
        self.opset: int = _own_opset(proto) if self.is_function else around

    def reindex(self) -> None:
        """Read the body anew."""
        initializers = () if self.is_function else self.proto.initializer
        self._initializers = {tensor.name: tensor for tensor in initializers}
        # Found in one pass: to ask each node for its producers, up to the input, would recurse as
        # deep as the model is.
        fixed = self._initializers if self._model.ir_version < 4 else ()
        self._run_time = set(self.input_names).difference(fixed)
        super().reindex()

    def _note(self, node: Node) -> None:
        super()._note(node)
        if node.op_type != "Constant" and not self._may_be_constant(node):
            self._run_time.update(filter(None, node.outputs))

    def _may_be_constant(self, node: Node) -> bool:
        if not graph_constants.can_evaluate(node) or not node.inputs:
            return False
        # Of the one only the shape is read, of the other's second operand only the type.
        read = {"Shape": 0, "CastLike": 1}.get(node.op_type, len(node.inputs))
        return self._run_time.isdisjoint(node.inputs[:read])

    def constant(self, value: str) -> NDArray[Any] | None:
        """Return a value that never changes, computing it where the model does; else None."""
        if value in self._run_time:
            return None
        tensor = self._initializers.get(value)
        if tensor is not None:
            return read_tensor(tensor, self._model.folder)
        node = self.producer(value)
        if node is not None:
            if value not in self._evaluated:
                result = self._evaluate(node, node.outputs.index(value))
                if result is not None and result.size > CACHED_ELEMENTS:
                    return result
                self._evaluated[value] = result
            return self._evaluated[value]
        return None if self.parent is None else self.parent.constant(value)

    def is_stored(self, value: str) -> bool:
        """Whether the body holds a tensor for `value`, be it only a default."""
        return value in self._initializers

    def _evaluate(self, node: Node, slot: int) -> NDArray[Any] | None:
        if node.op_type == "Constant":
            return graph_constants.constant_node_value(node, self._model.folder)
        if node.op_type == "Shape":
            return self._evaluate_shape(node)
        shape = self.shape(node.outputs[slot])
        if shape and np.prod([size or 1 for size in shape]) > graph_constants.MAX_ELEMENTS:
            return None
        inputs = {}
        for position, name in enumerate(node.inputs):
            if not name:
                continue
            value = self.constant(name)
            if value is None and node.op_type == "CastLike" and position == 1:
                value = self._any_of_type(name)  # only its type is read
            if value is None:
                return None
            inputs[name] = value
        return graph_constants.evaluate(node, slot, inputs, self.opset)

    def _any_of_type(self, value: str) -> NDArray[Any] | None:
        element = self.element(value)
        return np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(element)) if element else None

    def _evaluate_shape(self, node: Node) -> NDArray[Any] | None:
        shape = self.shape(node.input(0))
        if shape is None:
            return None
        start, end = node.attribute("start", 0), node.attribute("end", len(shape))
        sizes = shape[start:end]
        return None if None in sizes else np.asarray(sizes, np.int64)

    def add_constant(self, value: NDArray[Any], wish: str) -> str:
        """Store a new constant and return its name: `wish`, or the first free one like it."""
        name = self.fresh_name(wish)
        element = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        self._types[name] = ValueType(element, tuple(value.shape))
        if self.is_function:
            proto = onnx.helper.make_node("Constant", [], [name], name=name)
            attribute = proto.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
            graph_constants.fill_tensor(attribute.t, name, value)
            self.insert(proto, before=self.nodes[0] if self.nodes else None)
            return name
        tensor = self.proto.initializer.add()
        if self.parent is not None or not spill(tensor, name, value):
            graph_constants.fill_tensor(tensor, name, value)
        self._initializers[name] = tensor
        if self._model.ir_version < 4 and self.parent is None:
            info = onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            self.proto.input.append(info)
        return name

    def forget_shape(self, value: str) -> None:
        """Drop what is noted of the shape of a value that is about to change."""
        self._types[value] = ValueType(self.element(value))
        _keep(self.proto.value_info, lambda info: info.name != value)

    def set_constant(self, node: Node, slot: int, value: NDArray[Any]) -> None:
        """Give `node` a constant of its own at `slot`; what others read there stays theirs."""
        before = node.input(slot) or f"{node.name}_bias"
        name = self.add_constant(value, f"{before.removesuffix('_folded')}_folded")
        self.set_input(node, slot, name)

    def fresh_name(self, wish: str) -> str:
        """Return `wish`, or the first of `wish_1`, `wish_2`, ... that the model does not use."""
        name, number = wish, 0
        while name in self._model.names:
            number += 1
            name = f"{wish}_{number}"
        self._model.names.add(name)
        return name

    def element(self, value: str) -> int:
        """Return the TensorProto.DataType of a value, 0 when unknown."""
        known = self._types.get(value)
        if known is None and self.parent is not None:
            return self.parent.element(value)
        return known.element if known else 0

    def shape(self, value: str) -> tuple[int | None, ...] | None:
        """Return the sizes of a value, None where unknown."""
        known = self._types.get(value)
        if known is not None and known.shape is not None:
            return known.shape
        node = self.producer(value)
        if node is not None:
            with contextlib.suppress(Blocked):  # an attribute is a parameter of the function
                return self._shape_from(node) if node.output == value else None
            return None
        return self.parent.shape(value) if self.parent is not None else None

    def _shape_from(self, node: Node) -> tuple[int | None, ...] | None:
        """Return what a weight or an input tells: bodies of functions have no inferred shapes."""
        if node.op_type == "Constant":
            constant = self.constant(node.output)
            return None if constant is None else tuple(constant.shape)
        if node.op_type in _SHAPE_KEEPERS:
            return self.shape(node.input(0))
        if node.op_type in _CHANNEL_KEEPERS:
            shape = self.shape(node.input(0))
            return None if shape is None else (*shape[:2], *(None for _ in shape[2:]))
        if node.op_type in ("Conv", "ConvTranspose"):
            weight = self.shape(node.input(1))
            if weight is None:
                return None
            out = weight[0]
            if node.op_type == "ConvTranspose":
                out = weight[1] and weight[1] * node.attribute("group", 1)
            return (None, out, *(None for _ in weight[2:]))
        return (None, None) if node.op_type == "Gemm" else None

    def rank(self, value: str) -> int | None:
        """Return the number of axes of a value, None when unknown."""
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def size(self, value: str, axis: int) -> int | None:
        """Return the size of a value along `axis`, None when unknown or not fixed."""
        shape = self.shape(value)
        return None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]

    def tidy(self) -> None:
        """Drop what nothing reads any more: nodes, initializers and notes on values."""
        self.remove_unread()
        if self.is_function:
            _keep(self.proto.value_info, lambda info: info.name in self._producers)
            return
        # An initializer that is an input, too, or that a note names, is part of what callers know.
        public = set(self.input_names) if self._model.ir_version >= 4 else set()
        notes = self.proto.quantization_annotation
        public |= {name.value for note in notes for name in note.quant_parameter_tensor_names}
        dropped = {n for n in self._initializers if n not in public and not self._uses.get(n)}
        _keep(self.proto.initializer, lambda tensor: tensor.name not in dropped)
        _keep(self.proto.input, lambda info: info.name not in dropped)
        known = {*self._producers, *self.input_names, *self._initializers}
        _keep(self.proto.value_info, lambda info: info.name in known - dropped)
        _keep(notes, lambda note: note.tensor_name in known - dropped)
        self._initializers = {tensor.name: tensor for tensor in self.proto.initializer}


def _keep(entries: Any, wanted: Any) -> None:
    """Delete the entries that `wanted` turns down, in place: nothing is copied."""
    for position in reversed(range(len(entries))):
        if not wanted(entries[position]):
            del entries[position]


def open_bodies(model: ModelProto, folder: Path | None = None) -> list[Body]:
    """Return every body of the model, an outer one before those inside it."""
    facts = ModelFacts(_own_opset(model), model.ir_version, _all_names(model), folder)
    found: list[Body] = []
    for (proto, around), types in zip(bodies(model), infer_types(model), strict=True):
        found.append(Body(proto, facts, types, None if around is None else found[around]))
    return found


def _own_opset(proto: ModelProto | FunctionProto) -> int:
    return max((e.version for e in proto.opset_import if e.domain in DEFAULT_DOMAINS), default=0)


def _all_names(model: ModelProto) -> set[str]:
    names: set[str] = set()
    for body, _ in bodies(model):
        for node in body.node:
            names.update((node.name, *node.input, *node.output))
        if isinstance(body, onnx.GraphProto):
            names.update(entry.name for entry in (*body.input, *body.output, *body.initializer))
        else:
            names.update((*body.input, *body.output))
    return names


def is_float(value: NDArray[Any]) -> bool:
    """Whether the array is of one of the float dtypes that folding computes with."""
    return onnx.helper.np_dtype_to_tensor_dtype(value.dtype) in FLOAT_TYPES
