"""The algebra of parallel convolutions: kernels laid on one grid of taps and added up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64s = NDArray[np.float64]


class UnmergeableError(ValueError):
    """Two branches are no sum of taps of one convolution."""


@dataclass(frozen=True)
class Branch:
    """One convolution of an input: a Conv, or a per-channel affine as a kernel of one tap.

    Attributes:
        name: for the report.
        weight: (outputs, inputs per group, *kernel), any float dtype.
        bias: float64 (outputs,).
        pads_begin: zeros before the input, one a spatial axis.
        pads_end: zeros behind it.
        strides: one a spatial axis.
        dilations: distance of taps, one a spatial axis.
        groups: number of groups.
    """

    name: str
    weight: NDArray[Any]
    bias: Float64s
    pads_begin: tuple[int, ...]
    pads_end: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps along each spatial axis."""
        return self.weight.shape[2:]

    @property
    def cost(self) -> int:
        """Taps in all; a merged convolution must not have more than its branches together."""
        return math.prod(self.kernel)


def pointwise(name: str, scale: Float64s, shift: Float64s, like: Branch) -> Branch:
    """Return `scale[c] * x[c] + shift[c]` as a branch beside `like`.

    Raises:
        UnmergeableError: `like` has a stride, or other outputs than inputs.
    """
    outputs, inputs = like.weight.shape[:2]
    if any(stride != 1 for stride in like.strides) or outputs != inputs * like.groups:
        raise UnmergeableError(f"{like.name} does not keep the size and the number of channels")
    ones = (1,) * len(like.kernel)
    weight = np.zeros((outputs, inputs, *ones))
    channel = np.arange(outputs)
    weight[(channel, channel % inputs, *(0 for _ in ones))] = np.broadcast_to(scale, outputs)
    zeros = (0,) * len(ones)
    bias = np.array(np.broadcast_to(shift, outputs))
    return Branch(name, weight, bias, zeros, zeros, like.strides, like.dilations, like.groups)


def merged(branches: list[Branch]) -> Branch:
    """Return one branch, named and typed as the first, that computes the sum of all.

    Raises:
        UnmergeableError: their outputs differ in size or stride, or their taps lie on different
            grids, or the sum would have more taps than the branches together.
    """
    first = branches[0]
    if any(
        other.strides != first.strides
        or other.groups != first.groups
        or other.weight.shape[:2] != first.weight.shape[:2]
        for other in branches
    ):
        raise UnmergeableError("the branches differ in stride, groups or channels")
    grids = [_grid(branches, axis) for axis in range(len(first.kernel))]
    kernel = tuple(grid.taps for grid in grids)
    if math.prod(kernel) > sum(branch.cost for branch in branches):
        raise UnmergeableError("one kernel around all branches would cost more than they do")
    weight = np.zeros((*first.weight.shape[:2], *kernel))
    for index, branch in enumerate(branches):
        place = tuple(
            slice(grid.starts[index], grid.starts[index] + size)
            for grid, size in zip(grids, branch.kernel, strict=True)
        )
        weight[(slice(None), slice(None), *place)] += branch.weight.astype(np.float64)
    return Branch(
        first.name,
        weight,
        np.sum([branch.bias for branch in branches], axis=0),
        tuple(grid.begin for grid in grids),
        tuple(grid.end for grid in grids),
        first.strides,
        tuple(grid.dilation for grid in grids),
        first.groups,
    )


@dataclass(frozen=True)
class _Grid:
    """Where the taps of all branches lie along one axis of the merged kernel."""

    taps: int
    begin: int
    end: int
    dilation: int
    starts: tuple[int, ...]


def _grid(branches: list[Branch], axis: int) -> _Grid:
    """Return the smallest grid that holds every branch's taps along `axis`.

    The taps of a branch lie at `-begin, -begin + dilation, ...` from the output's place. Outputs
    are equally many when `begin + end - dilation * (taps - 1)` is the same for all.
    """
    spaced = {b.dilations[axis] for b in branches if b.kernel[axis] > 1}
    if len(spaced) > 1:
        raise UnmergeableError("the branches differ in dilation")
    dilation = spaced.pop() if spaced else 1
    reaches = [dilation * (b.kernel[axis] - 1) for b in branches]
    begins = [b.pads_begin[axis] for b in branches]
    surplus = {b + o.pads_end[axis] - r for b, o, r in zip(begins, branches, reaches, strict=True)}
    if len(surplus) > 1:
        raise UnmergeableError("the branches' outputs differ in size")
    begin = max(begins)
    reach = max(reach - own for reach, own in zip(reaches, begins, strict=True))
    end = surplus.pop() + reach
    if any((begin - own) % dilation for own in begins) or end < 0:
        raise UnmergeableError("the branches' taps lie on different grids")
    starts = tuple((begin - own) // dilation for own in begins)
    return _Grid((begin + reach) // dilation + 1, begin, end, dilation, starts)
