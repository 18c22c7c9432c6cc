"""Several requests' rows in one call of a runtime, and each request's part of what it gave."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[Any]"]
# What came of each part, and the seconds that all took.
Outcomes = tuple[list["Arrays | Exception"], float]


def run_together(run: Callable[[NDArray[Any]], Arrays], parts: list[NDArray[Any]]) -> Outcomes:
    """Run the parts as one batch; when that throws, each alone, so that only the bad one fails."""
    started = monotonic()
    try:
        outcomes: list[Arrays | Exception] = list(_split(run, parts))
    except Exception as error:  # noqa: BLE001 (onnxruntime's exceptions share no base class)
        outcomes = [_internal(error)]
        if len(parts) > 1:
            outcomes = [run_together(run, [part])[0][0] for part in parts]
    return outcomes, monotonic() - started


def _split(run: Callable[[NDArray[Any]], Arrays], parts: list[NDArray[Any]]) -> list[Arrays]:
    arrays = run(parts[0] if len(parts) == 1 else np.concatenate(parts))
    total = sum(len(part) for part in parts)
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) != total:
            raise InternalError(
                f"the model gave {array.shape} for {name!r}; expected {total} rows, one a picture"
            )
    answers = []
    start = 0
    for part in parts:
        stop = start + len(part)
        answers.append({name: array[start:stop] for name, array in arrays.items()})
        start = stop
    return answers


def _internal(error: Exception) -> Exception:
    if isinstance(error, InternalError):
        return error
    return InternalError(f"the model failed to run: {error}")
