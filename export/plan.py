"""A plan to move an affine through a body: every check first, then every rewrite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.node import Blocked
from export.rules import RULE_OF, Rule, Step, Want

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node

_NO_RULE = Rule()


def plan_backward(body: Body, want: Want) -> list[Step]:
    """Return the steps after which `want.value` comes out of its producers as wanted.

    Raises:
        Blocked: a node on the way cannot take its part; nothing has changed.
    """
    steps: list[Step] = []
    pending: list[tuple[Want, Node | None]] = [(want, None)]
    while pending:
        want, reader = pending.pop()
        if want.affine.is_identity:
            continue
        node = body.producer(want.value)
        if node is None:
            raise _no_producer(body, want.value, reader)
        uses = body.uses(want.value)
        if len(uses) != 1:
            readers = ", ".join(use.label for use in uses)
            raise Blocked(node.name, f"{node.label} has {len(uses)} consumers: {readers}")
        step = _rule(node).check_backward(body, node, want)
        steps.append(step)
        pending.extend((further, node) for further in step.wants)
    return steps


def plan_forward(body: Body, want: Want) -> list[Step]:
    """Return the steps after which every reader of `want.value` maps it by itself.

    Raises:
        Blocked: a node on the way cannot take its part; nothing has changed.
    """
    steps: list[Step] = []
    pending = [want]
    while pending:
        want = pending.pop()
        if want.affine.is_identity:
            continue
        for use in body.uses(want.value):
            if use.node is None:
                raise Blocked("", f"{want.value!r} is an output of the graph")
            if use.slot < 0:
                raise Blocked(use.node.name, f"a body inside {use.node.label} reads it")
            step = _rule(use.node).check_forward(body, use.node, use.slot, want)
            steps.append(step)
            pending.extend(step.wants)
    return steps


def carry_out(body: Body, steps: list[Step]) -> None:
    """Rewrite every step's node."""
    for step in steps:
        step.rule.rewrite(body, step)


def _rule(node: Node) -> Rule:
    return RULE_OF.get(node.op_type, _NO_RULE)


def _no_producer(body: Body, value: str, reader: Node | None) -> Blocked:
    """Return why a value that no node of the body makes cannot be changed."""
    outer = body.parent and body.parent.producer(value)
    if value in body.input_names:
        origin = "an input of the graph"
    elif outer:
        origin = f"made by {outer.label}, outside this body"
    else:
        origin = "a constant"
    if reader is not None:
        return Blocked(reader.name, f"{reader.label} reads {value!r}, {origin}")
    return Blocked(outer.name if outer else "", f"{value!r} is {origin}")
