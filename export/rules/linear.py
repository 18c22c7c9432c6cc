"""What convolutions and matrix products share: the algebra's answer, turned into a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.algebra import absorb_after, absorb_before, rounded
from export.graph import Blocked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.algebra import Affine
    from export.graph import Node


def absorb(
    node: Node,
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    affine: Affine,
    *,
    before: bool = False,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return a canonical weight and its bias with the affine inside, both in the weight's dtype.

    Args:
        node: the node that they belong to, for the reason.
        weight: (groups, outputs per group, inputs per group, taps).
        bias: (outputs,), or None where the node has none.
        affine: what to take over.
        before: whether it comes before the linear map instead of after it.

    Returns:
        The weight, and the bias; None where there was none and none is needed.

    Raises:
        Blocked: the channels do not match, or a value overflows the weight's dtype.
    """
    outputs = weight.shape[0] * weight.shape[1]
    start = np.zeros(outputs) if bias is None else bias.astype(np.float64).ravel()
    try:
        folded, shifted = (absorb_before if before else absorb_after)(weight, start, affine)
        stored = rounded(shifted, weight.dtype)
    except (ValueError, OverflowError) as error:
        raise Blocked(node.name, f"{node.label}: {error}") from error
    return folded, stored if bias is not None or stored.any() else None
