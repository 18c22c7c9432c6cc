"""What convolutions and matrix products share: the algebra's answers, with reasons for its noes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from export.algebra import absorb_after, absorb_before, rounded
from export.node import Blocked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from export.algebra import Affine
    from export.node import Node


def absorb(
    node: Node,
    weight: NDArray[Any],
    affine: Affine,
    *,
    bias: NDArray[Any] | None = None,
    before: bool = False,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return a canonical weight and its bias with the affine inside.

    Args:
        node: the node that they belong to, for the reason.
        weight: (groups, outputs per group, inputs per group, taps).
        affine: what to take over.
        bias: (outputs,), or None where the node has none.
        before: whether the affine comes before the linear map instead of after it.

    Returns:
        The weight in its own dtype, and the bias in float64.

    Raises:
        Blocked: the channels do not match, or the weight's dtype cannot hold a value.
    """
    outputs = weight.shape[0] * weight.shape[1]
    start = np.zeros(outputs) if bias is None else bias.astype(np.float64).ravel()
    try:
        return (absorb_before if before else absorb_after)(weight, start, affine)
    except (ValueError, ArithmeticError) as error:
        raise Blocked(node.name, f"{node.label}: {error}") from error


def stored(node: Node, values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values in the dtype that the node keeps them in.

    Raises:
        Blocked: one overflows it.
    """
    try:
        return rounded(values, dtype)
    except OverflowError as error:
        raise Blocked(node.name, f"{node.label}: {error}") from error
