"""Give each linear layer and batch norm its parameters as plain constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.graph_body import Body
    from export.node import Node

# Slots of parameters. torch's exporter computes zero biases as Shape -> Expand -> CastLike; other
# tools leave arithmetic on weights behind.
PARAMETER_SLOTS = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "BatchNormalization": (1, 2, 3, 4),
}


def resolve_constants(body: Body) -> None:
    """Replace parameters that nodes compute from constants; nodes that are then unread go."""
    for node in list(body.nodes):
        for slot in PARAMETER_SLOTS.get(node.op_type, ()):
            if _is_computed(body, node, slot):
                value = body.constant(node.input(slot))
                if value is not None:
                    body.set_constant(node, slot, value)
    body.remove_unread()


def _is_computed(body: Body, node: Node, slot: int) -> bool:
    producer = body.producer(node.input(slot)) if node.input(slot) else None
    return producer is not None and producer.op_type != "Constant"
