"""The classification extension: an output's k best classes as texts, "value:index:label"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def best(values: NDArray[Any], k: int, labels: Sequence[str], name: str) -> NDArray[Any]:
    """Return the k best classes of each row.

    Args:
        values: numbers (batch, classes).
        k: how many; more than there are classes means all.
        labels: the classes' names; may be shorter than the row, then the index stands alone.
        name: the output's name, for the error.

    Returns:
        object (batch, min(k, classes)): texts, best first; of equals the lower index first.

    Raises:
        BadRequestError: the output is no table of numbers.
    """
    if values.ndim != 2 or values.dtype == object:
        raise BadRequestError(
            f"output {name!r}: classification needs numbers of shape [batch, classes], "
            f"got shape {list(values.shape)}"
        )
    scores = values.astype(np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    texts = np.empty(order.shape, object)
    for row, columns in enumerate(order):
        for place, index in enumerate(columns):
            label = f":{labels[index]}" if index < len(labels) else ""
            texts[row, place] = f"{scores[row, index]:.6f}:{index}{label}"
    return texts
