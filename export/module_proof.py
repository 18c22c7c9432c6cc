"""Prove on its example that a folded PyTorch module computes what the original computes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from export.comparison import ProofError, compare
from export.proof import TOLERANCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

FEWEST = 64  # values of a channel whose own RMS means something; else the output's is taken


def check(before: nn.Module, after: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Compare the outputs of the example; what float32 differs from float64 by is allowed.

    Raises:
        ProofError: they differ by more.
    """
    kinds, old = _outputs(before, arguments)
    _, new = _outputs(after, arguments)
    narrow = kinds & {torch.float16, torch.bfloat16}
    tolerance = TOLERANCES["float16" if narrow else "float32"]
    proof = compare(old, new, tolerance=tolerance)
    if not proof.holds:
        proof = compare(old, new, tolerance=tolerance, noise=_exact(before, arguments))
    if not proof.holds:
        raise ProofError(f"the folded module computes something else: {proof.summary()}", proof)


def _exact(module: nn.Module, arguments: tuple[Any, ...]) -> dict[str, NDArray[Any]] | None:
    """Return the outputs in float64, or None where the module's own code insists on another."""
    wide = tuple(
        value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for value in arguments
    )
    try:
        return _outputs(copy.deepcopy(module).double(), wide)[1]
    except RuntimeError:
        return None


def _outputs(
    module: nn.Module, arguments: tuple[Any, ...]
) -> tuple[set[torch.dtype], dict[str, NDArray[Any]]]:
    """Return the outputs' types and their values, in float64."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout that is on at inference draws the same each time
        named = dict(_tensors(module(*arguments)))
    values = {name: value.double().numpy() for name, value in named.items()}
    return {value.dtype for value in named.values()}, {
        name: array if array.ndim > 1 and array.size >= FEWEST * array.shape[1] else array.ravel()
        for name, array in values.items()
    }


def _tensors(value: Any, name: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Name every tensor in a nest of tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield name, value.detach().cpu()
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(part, f"{name}.{key}")
    elif isinstance(value, tuple | list):
        for index, part in enumerate(value):
            yield from _tensors(part, f"{name}.{index}")
