"""A torch.export graph as a body that the rules of ONNX folding know, without its weights' bytes.

The body is a shadow: it is never run. Rules move affines through it and give its nodes new
constants; `export.module` then does the same to the graph that it stands for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import helper
from torch import fx

from export.affine_nodes import ARITHMETIC
from export.graph_body import Body, ModelFacts
from export.graph_shapes import ValueType
from export.module_in_place import METADATA, changed_in_place, may_change, writes
from export.module_operators import call_name, element, operator, translate, value_of
from export.module_rules import MODULE_RULES
from export.rules import RULE_OF

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOMAIN = "torch"  # of calls that are no ONNX operator here
OPSET, IR_VERSION = 21, 10
RULE_OF.update(MODULE_RULES)  # none of them has the name of an ONNX operator


class ModuleBody(Body):
    """The shadow of a graph; nodes have the names of `call_name`, values those of fx nodes.

    Attributes:
        root: the module whose graph it is.
        constants: values that never change, by name.
        added: names of those that folding added.
    """

    def __init__(self, root: fx.GraphModule) -> None:
        """Write down the graph of `root`."""
        self.root = root
        self.constants: dict[str, NDArray[Any]] = {}
        self.added: set[str] = set()
        self._tensors: dict[fx.Node, torch.Tensor] = {}
        types = {}
        proto = helper.make_graph([], type(root).__name__, [], [])
        for node in root.graph.nodes:
            types[node.name] = _type(node)
            self._write(proto, node)
        facts = ModelFacts(OPSET, IR_VERSION, set(types), None)
        super().__init__(proto, facts, types)

    def constant(self, value: str) -> NDArray[Any] | None:
        """Return a parameter, a buffer or what is computed from them alone; None for the rest."""
        return self.constants.get(value)

    def add_constant(self, value: NDArray[Any], wish: str) -> str:
        """Store a new constant and return its name."""
        name = self.fresh_name(wish)
        self.constants[name] = value
        self.added.add(name)
        return name

    def shape(self, value: str) -> tuple[int | None, ...] | None:
        """Return the sizes of a value, None where it is not fixed."""
        known = self.constants.get(value)
        return super().shape(value) if known is None else tuple(known.shape)

    def _write(self, proto: Any, node: fx.Node) -> None:
        if node.op == "placeholder":
            proto.input.add(name=node.name)
        elif node.op == "output":
            for result in node.all_input_nodes:
                proto.output.add(name=result.name)
        elif node.op == "call_function" and operator(node) not in METADATA:
            if not self._is_computed_before(node):
                proto.node.append(self._call(node))
            if writes(node):  # what it changes is seen outside, like an output
                proto.output.add(name=node.name)
        elif node.op == "get_attr" and not changed_in_place(node):
            path, _, name = str(node.target).rpartition(".")
            self._keep(node, getattr(self.root.get_submodule(path), name))

    def _is_computed_before(self, node: fx.Node) -> bool:
        """Compute what depends on parameters alone, as a frozen batch norm's scale does."""
        known = [self._tensors.get(source) for source in node.all_input_nodes]
        random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if not known or random or any(tensor is None for tensor in known):
            return False
        with torch.no_grad():
            arguments = torch.fx.map_arg((node.args, node.kwargs), self._tensors.__getitem__)
            result = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]  # a function
        if not isinstance(result, torch.Tensor):
            return False
        self._keep(node, result)
        return True

    def _keep(self, node: fx.Node, tensor: Any) -> None:
        if isinstance(tensor, torch.Tensor):
            self._tensors[node] = tensor.detach()
            self.constants[node.name] = to_numpy(tensor)

    def _call(self, node: fx.Node) -> Any:
        found = translate(node)
        # Arithmetic that is taken out lets its readers read, later, what it reads now.
        passing = any(map(may_change, node.all_input_nodes))
        if found is None or (passing and found.op_type in ARITHMETIC):
            inputs = [source.name for source in node.all_input_nodes]
            name = getattr(operator(node), "__name__", str(node.target))
            return helper.make_node(name, inputs, [node.name], call_name(node), domain=DOMAIN)
        inputs = [self._operand(node, slot, operand) for slot, operand in enumerate(found.operands)]
        return helper.make_node(
            found.op_type, inputs, [node.name], call_name(node), **found.attributes
        )

    def _operand(self, node: fx.Node, slot: int, operand: Any) -> str:
        if isinstance(operand, fx.Node):
            return operand.name
        if operand is None:
            return ""
        value = value_of(node)
        dtype = value.dtype if value is not None else torch.float32
        name = f"{node.name}.{slot}"
        self.constants[name] = to_numpy(torch.as_tensor(operand, dtype=dtype))
        return name


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """Return the values in the NumPy dtype of the same name."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes  # noqa: PLC0415 (onnx brings it; only bfloat16 needs it)

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_torch(values: NDArray[Any]) -> torch.Tensor:
    """Return the values as a tensor of the dtype of the same name."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(values))


def _type(node: fx.Node) -> ValueType:
    value = value_of(node)
    if value is None:
        return ValueType()
    return ValueType(
        element(value.dtype),
        tuple(size if isinstance(size, int) else None for size in value.shape),
    )
