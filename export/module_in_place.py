"""Turn calls that change a value in place into calls that make a new one.

Folding takes calls out and lets their readers read what came before. That is right only where
what came before is still what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from export.module_operators import call_name, operator
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Iterable

aten = torch.ops.aten
# They read sizes and types, never values.
METADATA = {
    aten.sym_size, aten.sym_stride, aten.sym_numel, aten._assert_tensor_metadata,  # noqa: SLF001
}  # fmt: skip
# May hand their input itself on, though their schema does not say so.
HAND_ON = {aten.dropout, aten.feature_dropout}


class ModuleFoldError(FlatfoldError):
    """This module cannot be folded; the message says why in one sentence."""


def without_in_place_calls(graph: fx.Graph) -> None:
    """Replace, in place, each changing call by its plain form; later readers read its result.

    What changes a parameter or a buffer stays: it is part of what the module does.

    Raises:
        ModuleFoldError: a call changes a value of which another one is a view.
    """
    for node in list(graph.nodes):
        plain = _plain_form(node)
        if plain is None:
            continue
        changed = node.args[0]
        later = _after(node, changed.users)
        _check_alone(node, changed)
        node.target = plain
        for reader in later:
            reader.replace_input_with(changed, node)


def changed_in_place(node: fx.Node) -> bool:
    """Whether a reader of `node` changes it, or a view of it."""
    return any(
        reader.args[0] is node
        if _changes(reader)
        else _is_view(reader) and changed_in_place(reader)
        for reader in node.users
    )


def may_change(node: fx.Node) -> bool:
    """Whether `node` is a buffer or parameter that some call changes in place, or a view of it."""
    owner = _owner(node)
    return owner.op == "get_attr" and changed_in_place(owner)


def value_readers(node: fx.Node) -> list[fx.Node]:
    """Return the calls that read the values of `node`, and not only its sizes."""
    return [
        reader
        for reader in node.users
        if operator(reader) not in METADATA and reader.op != "call_module"  # guards on sizes
    ]


def _plain_form(node: fx.Node) -> Any:
    """Return the overload that makes a new value instead; None where nothing is to be done."""
    if not _changes(node) or _owner(node).op == "get_attr":
        return None
    packet = getattr(aten, operator(node).__name__.removesuffix("_"), None)
    return getattr(packet, node.target._overloadname, None)  # type: ignore[union-attr] # noqa: SLF001  its only name


def writes(node: fx.Node) -> bool:
    """Whether the call changes one of its operands."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _changes(node: fx.Node) -> bool:
    return (
        writes(node) and operator(node).__name__.endswith("_") and isinstance(node.args[0], fx.Node)
    )


def _owner(node: fx.Node) -> fx.Node:
    """Return what made the memory that a view or a changing call hands on."""
    while _changes(node) or _is_view(node):
        node = node.all_input_nodes[0]
    return node


def _after(node: fx.Node, readers: Iterable[fx.Node]) -> list[fx.Node]:
    return [reader for reader in readers if node < reader]


def _check_alone(node: fx.Node, changed: fx.Node) -> None:
    """Raise where what `node` changes is seen under another name as well."""
    views = [reader for reader in value_readers(changed) if reader is not node and _is_view(reader)]
    source = changed
    while not views and _is_view(source):
        viewed = source.all_input_nodes[0]
        views = [reader for reader in value_readers(viewed) if reader is not source]
        source = viewed
    if views:
        raise ModuleFoldError(
            f"{call_name(node)} changes {changed.name} in place, which {call_name(views[0])} reads "
            "under another name; use the form that returns a new tensor"
        )


def _is_view(node: fx.Node) -> bool:
    if getattr(node.target, "__name__", "") == "getitem" or operator(node) in HAND_ON:
        return True
    schema = getattr(node.target, "_schema", None)
    returned = schema.returns if schema is not None and not schema.is_mutable else ()
    return any(entry.alias_info is not None for entry in returned)
