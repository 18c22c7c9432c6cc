"""A classifier's scores: which of its outputs they are, and how they become probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flatfold.contract.card import LOGITS_NAME, PROBABILITIES_NAME
from service.errors import InternalError
from service.tensors import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.tensors import TensorSpec

FLOATS = ("FP16", "FP32", "FP64")  # a table of integers may be the best labels' indices
# Softmax in float16 over a thousand classes adds up to 1 within this.
TOLERANCE = 1e-3


def find_scores(outputs: Sequence[TensorSpec], classes: int) -> str | None:
    """Return the output that holds a score for each of `classes` labels, or None.

    Of the tables with that many columns, or any number, the name `probabilities` goes before
    `logits`, that before others, the right number of columns before any, and floats before the
    rest; of equals it is the first.
    """

    def rank(spec: TensorSpec) -> tuple[bool, ...]:
        return (
            spec.name != PROBABILITIES_NAME,
            spec.name != LOGITS_NAME,
            spec.shape[1] != classes,
            spec.datatype not in FLOATS,
        )

    fitting = [
        spec for spec in outputs if len(spec.shape) == 2 and spec.shape[1] in (classes, VARIABLE)
    ]
    return min(fitting, key=rank).name if fitting else None


def probabilities(arrays: Mapping[str, NDArray[Any]], scores: str, classes: int) -> NDArray[Any]:
    """Return float (n, classes), the probabilities that the output `scores` stands for.

    The output `probabilities` holds them, `logits` their logits. What another output holds is seen
    row by row: values that are not negative and add up to 1 within `TOLERANCE` are probabilities,
    others are logits.

    Args:
        arrays: output name -> array.
        scores: the output, from `find_scores`.
        classes: how many labels there are.

    Raises:
        InternalError: the model gave another number of columns.
    """
    values = arrays[scores]
    if values.ndim != 2 or values.shape[1] != classes:
        raise InternalError(
            f"the model gave {values.shape} for {scores!r}; expected {classes} columns, one a label"
        )
    if scores == PROBABILITIES_NAME:
        return values
    values = values.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of a row with an infinity nothing finite comes out
        powers = np.exp(values - values.max(axis=1, keepdims=True))
    softmax: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    if scores == LOGITS_NAME:
        return softmax
    finished = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= TOLERANCE)
    return np.where(finished[:, None], values, softmax)
