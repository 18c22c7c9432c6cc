"""Merge parallel branches: convolutions of one value that are added up become one convolution."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from export.affine_nodes import batch_norm_affine
from export.graph_body import is_float
from export.kernels import Branch, UnmergeableError, merged, pointwise
from export.node import Blocked, Node
from export.report import Merge
from export.rules.linear import stored

if TYPE_CHECKING:
    from export.graph_body import Body

SUMS = ("Add", "Sum")


def merge_branches(body: Body) -> list[Merge]:
    """Merge whatever can be in one body, and return what was merged.

    As RepVGG (Ding et al. 2021) and ACNet (Ding et al. 2019) do, for any kernels on one grid.
    """
    merges = []
    for node in list(body.nodes):
        if node in body and node.op_type in SUMS and not _is_inner(body, node):
            merges += _merge_sum(body, node)
    return merges


def _is_inner(body: Body, node: Node) -> bool:
    """Whether the sum is but a term of another one."""
    reader = body.only_reader(node.output)
    return reader is not None and reader.op_type in SUMS


def _merge_sum(body: Body, root: Node) -> list[Merge]:
    sums, terms = _terms(body, root)
    by_source: dict[str, list[tuple[str, Node | None]]] = defaultdict(list)
    for term in terms:
        node = body.producer(term)
        own = node is not None and len(body.uses(term)) == 1
        if own and node is not None and node.op_type in ("Conv", "BatchNormalization"):
            by_source[node.input(0)].append((term, node))
        else:
            by_source[term].append((term, None))
    merges = (
        _merge_source(body, sums, source, members)
        for source, members in by_source.items()
        if len(members) > 1
    )
    return [merge for merge in merges if merge is not None]


def _terms(body: Body, root: Node) -> tuple[list[Node], list[str]]:
    """Return the nodes of a tree of sums, and the values that it adds up."""
    sums, terms, pending = [], [], [root]
    while pending:
        node = pending.pop()
        sums.append(node)
        for value in node.inputs:
            producer = body.producer(value)
            if producer and producer.op_type in SUMS and len(body.uses(value)) == 1:
                pending.append(producer)
            else:
                terms.append(value)
    return sums, terms


def _merge_source(
    body: Body, sums: list[Node], source: str, members: list[tuple[str, Node | None]]
) -> Merge | None:
    """Merge the branches of one source: its largest convolution takes in what fits it."""
    convs = [
        (term, node, branch)
        for term, node in members
        if node is not None and (branch := _conv_branch(body, node)) is not None
    ]
    if not convs:
        return None
    keeper_term, keeper, total = max(convs, key=lambda entry: entry[2].cost)
    taken: list[tuple[Node | None, str]] = []
    branches = [total]
    for term, node in members:
        if term == keeper_term:
            continue
        try:
            branch = _branch(body, source, node, total)
            merged([*branches, branch])
        except (UnmergeableError, Blocked):
            continue
        branches.append(branch)
        taken.append((node, branch.name))
    if not taken or not _store(body, keeper, merged(branches)):
        return None
    for node, _ in taken:
        # Taking out a sum can rename a term: ask its node for the name it has now.
        _drop_term(body, sums, node.output if node else source)
    body.remove_unread()
    return Merge(keeper.name, (keeper.name, *(name for _, name in taken)))


def _branch(body: Body, source: str, node: Node | None, like: Branch) -> Branch:
    if node is None:
        return pointwise(f"identity of {source}", np.ones(1), np.zeros(1), like)
    if node.op_type == "BatchNormalization":
        affine = batch_norm_affine(body, node)
        return pointwise(node.name, affine.scale, affine.shift, like)
    branch = _conv_branch(body, node)
    if branch is None or branch.weight.dtype != like.weight.dtype:
        raise UnmergeableError(f"{node.label} has no constant weight of the same dtype")
    return branch


def _conv_branch(body: Body, node: Node) -> Branch | None:
    """Return a Conv as a branch; None when its weight or its padding is not known."""
    if node.op_type != "Conv":
        return None
    try:
        return _known_branch(body, node)
    except Blocked:  # an attribute is a parameter of the function
        return None


def _known_branch(body: Body, node: Node) -> Branch | None:
    weight = body.constant(node.input(1))
    bias = body.constant(node.input(2)) if node.input(2) else np.zeros(1)
    auto_pad = node.attribute("auto_pad", "NOTSET")
    if weight is None or bias is None or not is_float(weight) or auto_pad.startswith("SAME"):
        return None
    axes = weight.ndim - 2
    pads = node.attribute("pads") if auto_pad != "VALID" else None
    pads = tuple(pads or (0,) * 2 * axes)
    return Branch(
        node.name,
        weight,
        np.array(np.broadcast_to(bias.astype(np.float64), weight.shape[0])),
        pads[:axes],
        pads[axes:],
        tuple(node.attribute("strides", (1,) * axes)),
        tuple(node.attribute("dilations", (1,) * axes)),
        node.attribute("group", 1),
    )


def _store(body: Body, keeper: Node, total: Branch) -> bool:
    """Make `keeper` the merged convolution; False when its dtype cannot hold it."""
    weight = body.constant(keeper.input(1))
    if weight is None:
        return False
    try:
        values = {1: stored(keeper, total.weight, weight.dtype)}
        if keeper.input(2) or total.bias.any():
            values[2] = stored(keeper, total.bias, weight.dtype)
    except Blocked:
        return False
    for slot, value in values.items():
        body.set_constant(keeper, slot, value)
    keeper.drop_attributes("auto_pad")
    keeper.set_attribute("kernel_shape", list(total.kernel))
    keeper.set_attribute("pads", [*total.pads_begin, *total.pads_end])
    keeper.set_attribute("dilations", list(total.dilations))
    return True


def _drop_term(body: Body, sums: list[Node], term: str) -> None:
    """Take one term out of the sum that adds it."""
    for inner in sums[1:]:  # without the term, a sum inside may broadcast to less
        body.forget_shape(inner.output)
    use = next(use for use in body.uses(term) if use.node in sums)
    assert use.node is not None  # noqa: S101 - it is one of the sums
    left = [value for slot, value in enumerate(use.node.inputs) if slot != use.slot]
    if len(left) == 1:
        body.bypass(use.node, 1 - use.slot)
    else:
        body.become(use.node, use.node.op_type, left)
