"""The bodies that a torch.export graph runs through an operator: blocks, branches and loops.

A block under `torch.no_grad` is only a piece of the graph, and is put back into it. What autocast,
`torch.cond` and the like run stays apart; its batch norms are kept, and told of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from export.module_operators import call_name, translate, value_of
from export.report import KEPT, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


def inline_grad_modes(root: fx.GraphModule) -> None:
    """Put the blocks under `torch.no_grad` and `torch.enable_grad` into the graph, in place.

    What comes out of a block without gradients is detached: a gradient still stops there.
    """
    for call in list(root.graph.nodes):
        if call.target is torch.ops.higher_order.wrap_with_set_grad_enabled:
            _inline(root, call)


def kept_in_bodies(root: fx.GraphModule, path: str = "") -> Iterator[Verdict]:
    """Yield a verdict for each batch norm in a body that the graph of `root` runs, inner first."""
    for call in root.graph.nodes:
        for source in call.all_input_nodes:
            body = _body(root, source)
            if body is None:
                continue
            inside = f"{path}{source.target}/"
            yield from kept_in_bodies(body, inside)
            reason = (
                f"{call.name} ({call.target}) runs it in a body of its own, which stays as it is"
            )
            for node in filter(_is_batch_norm, body.graph.nodes):
                name = f"{inside}{call_name(node)}"
                yield Verdict(name, KEPT, reason=reason, blocker=call_name(call))


def _is_batch_norm(node: fx.Node) -> bool:
    found = translate(node)
    return found is not None and found.op_type == "BatchNormalization"


def _body(root: fx.GraphModule, source: fx.Node) -> fx.GraphModule | None:
    """Return the body that a node hands to an operator, None where it is a value."""
    if source.op != "get_attr":
        return None
    path, _, name = str(source.target).rpartition(".")
    body = getattr(root.get_submodule(path), name)
    return body if isinstance(body, fx.GraphModule) else None


def _inline(root: fx.GraphModule, call: Any) -> None:
    gradients, source, *operands = call.args
    body: fx.GraphModule = root.get_submodule(source.target)  # type: ignore[assignment]  # a block is one
    inline_grad_modes(body)
    inputs = (node for node in body.graph.nodes if node.op == "placeholder")
    copies = dict(zip(inputs, operands, strict=True))
    with root.graph.inserting_before(call):
        results: Any = root.graph.graph_copy(body.graph, copies)
    for node, copied in copies.items():
        if node.op == "get_attr":
            copied.target = f"{source.target}.{node.target}"
    for reader in list(call.users):  # each takes one result out
        result = results[reader.args[1]]
        if not gradients and value_of(result) is not None:
            with root.graph.inserting_before(reader):
                result = root.graph.call_function(torch.ops.aten.detach.default, (result,))
            result.meta = dict(reader.meta)
        reader.replace_all_uses_with(result)
        root.graph.erase_node(reader)
    root.graph.erase_node(call)
