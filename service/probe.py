"""The first runs of a loaded model: does it run, and may requests share a batch?

Sharing is only right when a row's result does not depend on its neighbours. A model that
normalises or sums over the batch would give one caller's data to another, so it is tried. A model
that drops or adds rows by what it sees in them may give the right number for made-up ones, so that
the names of the axes are looked at as well.
"""

from __future__ import annotations

import logging
import re
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

# A size that depends on the data, as torch.export names it.
_BY_DATA = re.compile(r"u\d+")

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
        of_zeros = run({spec.name: _zeros(spec) for spec in inputs})
    except Exception as error:
        if not free_inner_axes:
            raise ProbeError(str(error)) from error
        # A free height of 1 may be too small for the network; only real input can tell.
        logger.info("the model's sizes are free: it was not warmed (%s)", error)
        return False
    if len(inputs) != 1 or free_inner_axes or not _first_axis_is_free((*inputs, *outputs)):
        return False
    for spec in outputs:
        if not _may_count_the_same(inputs[0].symbols[0], spec.symbols[0]):
            logger.info(
                "the model does not take batches: it is given %s rows, and gives %s of %s",
                inputs[0].symbols[0] or "so many",
                spec.symbols[0],
                spec.name,
            )
            return False
    return _rows_are_independent(inputs[0], of_zeros, run)


def _first_axis_is_free(specs: Sequence[TensorSpec]) -> bool:
    return all(spec.shape[:1] == (VARIABLE,) for spec in specs)


def _may_count_the_same(given: str, gives: str) -> bool:
    """Whether the names of an input's and an output's first axis leave open that they are equal.

    Two names that somebody chose say that they are not, but for two words for the batch. Names that
    end in a digit are an exporter's, a new one for each axis: unk__12, y_dynamic_axes_1, s77,
    Softmaxy_dim_0, DynamicDimension.0. They say nothing, unless it is a size that depends on data.
    """
    if given == gives:
        return True
    if _BY_DATA.fullmatch(gives):
        return False
    chosen = all(name and not name[-1].isdigit() for name in (given, gives))
    return not chosen or all("batch" in name.lower() for name in (given, gives))


def _zeros(spec: TensorSpec) -> NDArray[Any]:
    shape = tuple(1 if size == VARIABLE else size for size in spec.shape)
    return np.full(shape, "", object) if spec.datatype == "BYTES" else np.zeros(shape, spec.dtype)


def _rows_are_independent(spec: TensorSpec, of_zeros: Mapping[str, NDArray[Any]], run: Run) -> bool:
    """Compare different rows run together with the same rows run alone.

    The rows are zeros and ones, which an index or a token input accepts as well, and one half of
    each, for models that subtract a row's mean; for bytes, which are mostly pixels, black and
    white. The first row comes again as the last: no sorting leaves it there, and no set has it.
    """
    zeros = _zeros(spec)
    ones = np.full_like(zeros, {"BYTES": "1", "UINT8": 255}.get(spec.datatype, 1))
    halves = ones.copy()
    halves.reshape(-1)[: halves.size // 2] = zeros.reshape(-1)[: halves.size // 2]
    try:
        together = run({spec.name: np.concatenate([ones, halves, zeros, ones])})
        of_ones, of_halves = (run({spec.name: row}) for row in (ones, halves))
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        logger.info("the model does not take batches: %s", error)
        return False
    alone = (of_ones, of_halves, of_zeros, of_ones)
    return all(
        values.shape[:1] == (len(alone),)
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
