"""Prove on its example that a folded PyTorch module computes what the original computes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call
from torch.utils import _pytree

from export.comparison import ProofError, compare
from export.proof import TOLERANCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import nn

FEWEST = 64  # values of a channel whose own RMS means something; else the output's is taken


def check(
    before: nn.Module,
    after: nn.Module,
    arguments: tuple[Any, ...],
    *,
    name: str = "the folded module",
) -> None:
    """Compare the outputs of the example; what float32 differs from float64 by is allowed.

    Args:
        before: the original; like `after` and the arguments, it is as it was afterwards.
        after: what should compute the same.
        arguments: the example.
        name: what `after` is, for the message.

    Raises:
        ProofError: they differ by more, or in type.
    """
    types, old = _outputs(before, arguments)
    changed, new = _outputs(after, arguments)
    if types != changed:
        raise ProofError(f"{name} returns other types: {changed}, the original {types}")
    narrow = {torch.float16, torch.bfloat16}.intersection(types.values())
    tolerance = TOLERANCES["float16" if narrow else "float32"]
    proof = compare(old, new, tolerance=tolerance)
    if not proof.holds:
        exact = _exact(before, arguments)
        proof = compare(old, new, tolerance=tolerance, noise=[] if exact is None else [exact])
    if not proof.holds:
        raise ProofError(f"{name} computes something else: {proof.summary()}", proof)


def _exact(module: nn.Module, arguments: tuple[Any, ...]) -> dict[str, NDArray[Any]] | None:
    """Return the outputs in float64, or None where the module's own code insists on another."""
    try:
        return _outputs(copy.deepcopy(module).double(), _pytree.tree_map(_wide, arguments))[1]
    except RuntimeError:
        return None


def _wide(value: Any) -> Any:
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value


def _outputs(
    module: nn.Module, arguments: tuple[Any, ...]
) -> tuple[dict[str, torch.dtype], dict[str, NDArray[Any]]]:
    """Return the outputs' types and their values, in float64.

    The module computes on copies: it may change its inputs, buffers and parameters in place, which
    the caller owns and the other module reads.
    """
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        state, given = _pytree.tree_map(_copied, (state, arguments))
        torch.manual_seed(0)  # dropout that is on at inference draws the same each time
        named = dict(_tensors(functional_call(module, state, given)))
    values = {name: value.double().numpy() for name, value in named.items()}
    return {name: value.dtype for name, value in named.items()}, {
        name: array if array.ndim > 1 and array.size >= FEWEST * array.shape[1] else array.ravel()
        for name, array in values.items()
    }


def _copied(value: Any) -> Any:
    return value.clone() if torch.is_tensor(value) else value


def _tensors(value: Any, name: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Name every tensor in a nest of tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        yield name, torch.view_as_real(value) if value.is_complex() else value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(part, f"{name}.{key}")
    elif isinstance(value, tuple | list):
        for index, part in enumerate(value):
            yield from _tensors(part, f"{name}.{index}")
