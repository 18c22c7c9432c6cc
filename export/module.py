"""Fold the batch norms of a PyTorch module; the result is a working module again.

torch.export writes down every call with the parameters that it reads, whatever class made it: a
functional batch norm, SyncBatchNorm and subclasses all are one operator. Folding goes by call,
not by module: a convolution that is called twice gets weights of its own for the call that the
batch norm follows, and a weight that others read is never changed.

The rules are those of ONNX models: they are applied to a shadow of the graph (`module_body.py`),
and what they did to it is then done to the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from export.affine_nodes import ARITHMETIC
from export.folding import fold_body
from export.module_body import ModuleBody, to_torch
from export.module_in_place import ModuleFoldError, without_in_place_calls
from export.module_operators import call_name
from export.module_preparation import prepare
from export.module_proof import check

if TYPE_CHECKING:
    from export.graph import Node
    from export.report import FoldReport

REMOVABLE = {"BatchNormalization", *ARITHMETIC}  # what a fold takes out of the graph


def fold_module(
    module: nn.Module, example: torch.Tensor | tuple[Any, ...]
) -> tuple[nn.Module, FoldReport]:
    """Return a folded copy of `module` for inference, proved on `example`, and the report.

    Args:
        module: any module that torch.export can write down; it is left as it is.
        example: one input, or a tuple of all; other sizes work where the module's code leaves them
            free, and raise an error where it does not.

    Raises:
        ModuleFoldError: torch.export cannot follow the module, or it changes a view in place.
        FoldRefusedError: a batch norm has NaN, infinite or negative statistics; names it.
        ProofError: the folded module computes something else.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    ready = prepare(module)
    root = _written_down(ready, arguments)
    without_in_place_calls(root.graph)
    root.graph.eliminate_dead_code()
    body = ModuleBody(root)
    before = {node.name: node for node in body.nodes}
    report = fold_body(body, merge_branches=False)
    _carry_over(root, body, before)
    root.graph.eliminate_dead_code()
    root.graph.lint()
    folded = fx.GraphModule(root, root.graph, type(module).__name__).eval()
    check(ready, folded, arguments)
    return folded, report


def _written_down(module: nn.Module, arguments: tuple[Any, ...]) -> fx.GraphModule:
    """Return the graph; sizes stay free where the module's code allows it, and are checked else.

    torch.export takes a size of 1 for a constant, and a batch of 1 is what most examples have:
    twice the rows are tried first. Some code is beyond its reasoning about free sizes (a ResNet's
    pool and view before its last layer): then the batch alone is free, and at last nothing.
    """
    doubled = tuple(map(_twice, arguments))
    reasons: list[Exception] = []
    for given, axes in ((doubled, None), (doubled, 1), (arguments, None), (arguments, 0)):
        try:
            return _exported(module, given, axes)
        except Exception as error:  # noqa: BLE001  it raises whatever the module's own code meets
            reasons.append(error)
    last = reasons[-1]
    lines = (text for text in str(last).splitlines() if text.strip())
    raise ModuleFoldError(
        f"torch.export cannot follow {type(module).__name__}: {type(last).__name__}: "
        f"{next(lines, 'no reason given')}"
    ) from last


def _exported(module: nn.Module, arguments: tuple[Any, ...], axes: int | None) -> fx.GraphModule:
    """Export with the first `axes` axes of every tensor free; None frees all."""
    free = tuple(
        dict.fromkeys(range(value.ndim)[:axes], torch.export.Dim.AUTO)
        if isinstance(value, torch.Tensor)
        else None
        for value in arguments
    )
    return torch.export.export(module, arguments, dynamic_shapes=free).module()


def _twice(value: Any) -> Any:
    """Return a batch of one row as a batch of two, anything else as it is."""
    single = isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[0] == 1
    return torch.cat([value, value]) if single else value


def _carry_over(root: fx.GraphModule, body: ModuleBody, before: dict[str, Node]) -> None:
    """Do to the graph of `root` what folding did to its shadow, whose nodes were `before`."""
    left = {node.name for node in body.nodes}
    for call in list(root.graph.nodes):
        node = before.get(call_name(call))
        if node is None or call.op != "call_function":
            continue
        if node.name in left:
            _store(root, call, {s: v for s, v in enumerate(node.inputs) if v in body.added}, body)
        elif node.op_type in REMOVABLE:
            sources = (source for source in call.args if isinstance(source, fx.Node))
            source = next(source for source in sources if source.name not in body.constants)
            call.replace_all_uses_with(source)
            root.graph.erase_node(call)


def _store(root: fx.GraphModule, call: fx.Node, added: dict[int, str], body: ModuleBody) -> None:
    """Give this one call parameters of its own; the old ones stay with their other readers."""
    arguments = [*call.args, *[None] * (max(added, default=-1) + 1 - len(call.args))]
    for slot, value in added.items():
        old = arguments[slot]
        role = call.target._schema.arguments[slot].name  # type: ignore[union-attr] # noqa: SLF001  an operator's only description
        name = f"{call.name}_{role}_folded"
        trained = isinstance(old, fx.Node) and _attribute(root, old).requires_grad
        like = call.meta["val"]
        tensor = to_torch(body.constants[value]).to(like.device)
        root.register_parameter(name, nn.Parameter(tensor, requires_grad=trained))
        with root.graph.inserting_before(call):
            arguments[slot] = root.graph.get_attr(name)
    if added:
        call.args = tuple(arguments)
        roles = {call.target._schema.arguments[slot].name for slot in added}  # type: ignore[union-attr] # noqa: SLF001  as above
        call.kwargs = {key: entry for key, entry in call.kwargs.items() if key not in roles}


def _attribute(root: nn.Module, node: fx.Node) -> torch.Tensor:
    """Return the parameter that a get_attr node reads; for a computed one, a tensor without."""
    if node.op != "get_attr":
        return torch.empty(0)
    path, _, name = str(node.target).rpartition(".")
    value: torch.Tensor = getattr(root.get_submodule(path), name)
    return value
