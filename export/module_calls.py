"""What one call of a linear operator in a torch.export graph is: operator, name, weight layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

aten = torch.ops.aten
CONVOLUTIONS = {aten.conv1d, aten.conv2d, aten.conv3d}
TRANSPOSED = {aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d}
LINEAR = {aten.linear}
WEIGHT, BIAS = 1, 2  # positions in the arguments of all of these


def operator(node: Any) -> Any:
    """Return the operator that a node calls, whatever its overload; None for other nodes."""
    return getattr(node.target, "overloadpacket", None) if isinstance(node, fx.Node) else None


def call_name(node: Any) -> str:
    """Return the calling module and the call's own name, e.g. "features.1 (conv2d_3)"."""
    if not isinstance(node, fx.Node):
        return ""
    owner = next(reversed((node.meta.get("nn_module_stack") or {}).values()), ("",))[0]
    return f"{owner} ({node.name})" if owner else node.name


@dataclass(frozen=True)
class Layout:
    """How a weight lies in the algebra's (groups, outputs per group, inputs per group, taps)."""

    groups: int
    transposed: bool

    @classmethod
    def of(cls, call: fx.Node) -> Layout:
        """Read groups and kind from a linear call."""
        if operator(call) in LINEAR:
            return cls(groups=1, transposed=False)
        schema = call.target._schema  # type: ignore[union-attr] # noqa: SLF001  an operator's only description
        at = [argument.name for argument in schema.arguments].index("groups")
        groups: Any = call.args[at] if len(call.args) > at else call.kwargs.get("groups", 1)
        return cls(int(groups), operator(call) in TRANSPOSED)

    def canonical(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return torch's weight in the algebra's layout."""
        if self.transposed:  # (inputs, outputs per group, *kernel)
            inputs, outputs = weight.shape[:2]
            split = weight.reshape(self.groups, inputs // self.groups, outputs, -1)
            return split.swapaxes(1, 2)
        outputs, inputs = weight.shape[:2]
        return weight.reshape(self.groups, outputs // self.groups, inputs, -1)

    def original(self, weight: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the algebra's weight in torch's layout and `shape`."""
        return (weight.swapaxes(1, 2) if self.transposed else weight).reshape(shape)
