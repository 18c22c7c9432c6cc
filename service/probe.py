"""The first runs of a loaded model: does it run, and may requests share a batch?

Sharing is only right when a row's result does not depend on its neighbours. A model that
normalises or sums over the batch would give one caller's data to another, so it is tried.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from flatfold.contract.errors import FlatfoldError
from service.tensors import VARIABLE, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Run = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]

# Batched and single runs may pick other kernels: float16 and int8 models differ by this much.
RELATIVE = 0.02
ABSOLUTE = 0.01

logger = logging.getLogger(__name__)


class ProbeError(FlatfoldError):
    """The model loads, but running it fails."""


def probe(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], run: Run) -> bool:
    """Run the model on made-up data; return whether its rows may share a batch.

    Args:
        inputs: the graph's inputs.
        outputs: the graph's outputs.
        run: takes input name -> array, returns output name -> array.

    Raises:
        ProbeError: every size is fixed but for the batch, and the run fails all the same.
    """
    free_inner_axes = any(VARIABLE in spec.shape[1:] for spec in inputs)
    try:
        run({spec.name: _zeros(spec) for spec in inputs})
    except Exception as error:
        if not free_inner_axes:
            raise ProbeError(str(error)) from error
        # A free height of 1 may be too small for the network; only real input can tell.
        logger.info("the model's sizes are free: it was not warmed (%s)", error)
        return False
    if len(inputs) != 1 or free_inner_axes or not _first_axis_is_free((*inputs, *outputs)):
        return False
    return _rows_are_independent(inputs[0], run)


def _first_axis_is_free(specs: Sequence[TensorSpec]) -> bool:
    return all(spec.shape[:1] == (VARIABLE,) for spec in specs)


def _zeros(spec: TensorSpec) -> NDArray[Any]:
    shape = tuple(1 if size == VARIABLE else size for size in spec.shape)
    return np.full(shape, "", object) if spec.datatype == "BYTES" else np.zeros(shape, spec.dtype)


def _rows_are_independent(spec: TensorSpec, run: Run) -> bool:
    """Compare two different rows run together with the same rows run alone.

    The rows are zeros and ones, which an index or a token input accepts as well; for bytes, which
    are mostly pixels, black and white.
    """
    zeros = _zeros(spec)
    ones = np.full_like(zeros, {"BYTES": "1", "UINT8": 255}.get(spec.datatype, 1))
    try:
        together = run({spec.name: np.concatenate([zeros, ones])})
        alone = [run({spec.name: row}) for row in (zeros, ones)]
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        logger.info("the model does not take batches: %s", error)
        return False
    return all(
        values.shape[:1] == (2,)
        and all(
            _close(values[index : index + 1], single[name]) for index, single in enumerate(alone)
        )
        for name, values in together.items()
    )


def _close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind == "f":
        return np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    return bool(np.array_equal(one, other))
