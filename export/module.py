"""Fold the batch norms of a PyTorch module; the result is a working module again.

torch.export writes down every call with the parameters that it reads, whatever class made it: a
functional batch norm, SyncBatchNorm and subclasses all are one operator. Folding goes by call,
not by module: a convolution that is called twice gets weights of its own for the call that the
batch norm follows, and a weight that others read is never changed.

The rules are those of ONNX models: they are applied to a shadow of the graph (`module_body.py`),
and what they did to it is then done to the graph.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from export.affine_nodes import ARITHMETIC
from export.folding import fold_body
from export.module_bodies import inline_grad_modes, kept_in_bodies
from export.module_body import ModuleBody, to_torch
from export.module_export import written_down
from export.module_in_place import without_in_place_calls
from export.module_operators import NUMBER_MINUS, arguments, call_name, translate
from export.module_preparation import prepare
from export.module_proof import check

if TYPE_CHECKING:
    from export.node import Node
    from export.report import FoldReport

REMOVABLE = {"BatchNormalization", *ARITHMETIC}  # what a fold takes out of the graph


def fold_module(
    module: nn.Module, example: torch.Tensor | tuple[Any, ...]
) -> tuple[nn.Module, FoldReport]:
    """Return a folded copy of `module` for inference, proved on `example`, and the report.

    Args:
        module: any module that torch.export can write down; it is left as it is.
        example: one input, or a tuple of all; left as it is. Other sizes work where the module's
            code leaves them free, and raise an error where it does not.

    Raises:
        ModuleFoldError: torch.export cannot follow the module, a parameter of it has no value yet,
            or it changes a view in place.
        FoldRefusedError: a batch norm has NaN, infinite or negative statistics; names it.
        ProofError: the folded module, or what torch.export made of it, computes something else.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    ready = prepare(module)
    root = written_down(ready, arguments)
    inline_grad_modes(root)
    without_in_place_calls(root.graph)
    root.graph.eliminate_dead_code()
    apart = tuple(kept_in_bodies(root))
    body = ModuleBody(root)
    before = {node.name: node for node in body.nodes}
    report = fold_body(body, merge_branches=False)
    _carry_over(root, body, before)
    root.graph.eliminate_dead_code()
    root.graph.lint()
    folded = fx.GraphModule(root, root.graph, type(module).__name__).eval()
    check(ready, folded, arguments)
    return folded, replace(report, verdicts=apart + report.verdicts)


def _carry_over(root: fx.GraphModule, body: ModuleBody, before: dict[str, Node]) -> None:
    """Do to the graph of `root` what folding did to its shadow, whose nodes were `before`."""
    left = {node.name for node in body.nodes}
    for call in list(root.graph.nodes):
        node = before.get(call_name(call))
        if node is None or call.op != "call_function":
            continue
        if node.name in left:
            added = {slot: v for slot, v in enumerate(node.inputs) if v in body.added}
            if added:
                _store(root, call, added, body)
        elif node.op_type in REMOVABLE:
            sources = (source for source in call.args if isinstance(source, fx.Node))
            source = next(source for source in sources if source.name not in body.constants)
            call.replace_all_uses_with(source)
            root.graph.erase_node(call)


def _store(root: fx.GraphModule, call: Any, added: dict[int, str], body: ModuleBody) -> None:
    """Give this one call parameters of its own; the old ones stay with their other readers.

    Args:
        root: the module of the call's graph.
        call: what gets them.
        added: names of the new constants by operand, as `translate` counts them.
        body: where the constants are.
    """
    if max(added) >= len(_roles(call)):
        _become_linear(call)
        body.constants[added[1]] = body.constants[added[1]].T
    if call.target is NUMBER_MINUS:
        call.target = torch.ops.aten.rsub.Tensor
    if call.target is torch.ops.aten.addmm.default and 2 in added:
        call.update_kwarg("beta", 1)  # the new addend has it inside
    given = arguments(call)
    roles = _roles(call)
    for slot, value in added.items():
        role = roles[slot]
        old = given[role]
        trained = isinstance(old, fx.Node) and _attribute(root, old).requires_grad
        tensor = to_torch(body.constants[value]).to(call.meta["val"].device)
        name = f"{call.name}_{role}_folded"
        root.register_parameter(name, nn.Parameter(tensor, requires_grad=trained))
        with root.graph.inserting_before(call):
            _set(call, list(given).index(role), role, root.graph.get_attr(name))


def _roles(call: fx.Node) -> tuple[str, ...]:
    """Return the names of the call's operands, in the order of its translation."""
    found = translate(call)
    return found.roles if found is not None and found.roles else tuple(arguments(call))


def _become_linear(call: fx.Node) -> None:
    """Make a product of matrices a linear layer, which has a place for a bias."""
    factors = arguments(call)
    call.target = torch.ops.aten.linear.default
    call.args, call.kwargs = (*factors.values(), None), {}


def _set(call: fx.Node, place: int, role: str, new: fx.Node) -> None:
    """Replace one argument, by its place if all before it are given so, else by its name."""
    kwargs = {key: entry for key, entry in call.kwargs.items() if key != role}
    if place <= len(call.args):
        call.args = (*call.args[:place], new, *call.args[place + 1 :])
        call.kwargs = kwargs
    else:
        call.kwargs = {**kwargs, role: new}


def _attribute(root: nn.Module, node: fx.Node) -> torch.Tensor:
    """Return the parameter that a get_attr node reads; for a computed one, a tensor without."""
    if node.op != "get_attr":
        return torch.empty(0)
    path, _, name = str(node.target).rpartition(".")
    value: torch.Tensor = getattr(root.get_submodule(path), name)
    return value
