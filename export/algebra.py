"""The algebra of folding: per-channel affine maps, and linear maps that take one over.

Everything is computed in float64 and rounded once, to the dtype of the weight. Nothing here knows
of ONNX or of PyTorch.

A linear map's weight is brought to one canonical layout: (groups, outputs per group, inputs per
group, taps). Convolutions of any rank, transposed ones and matrix products all are views of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float64s = NDArray[np.float64]
    Weights = NDArray[Any]  # float16, bfloat16, float32 or float64


class DegenerateStatisticsError(ValueError):
    """A batch norm's parameters do not define a finite map."""


@dataclass(frozen=True)
class Affine:
    """The map `y[c] = scale[c] * x[c] + shift[c]`.

    Attributes:
        scale: float64 (channels,), or (1,) for one factor over all channels.
        shift: float64, shaped as `scale`.
    """

    scale: Float64s
    shift: Float64s

    @classmethod
    def of(cls, scale: Any, shift: Any) -> Affine:
        """Return the affine of two array-likes that broadcast to one (channels,) vector."""
        pair = np.broadcast_arrays(
            np.atleast_1d(np.asarray(scale, np.float64)),
            np.atleast_1d(np.asarray(shift, np.float64)),
        )
        return cls(*pair)

    @classmethod
    def of_batch_norm(
        cls, gamma: Weights, beta: Weights, mean: Weights, variance: Weights, epsilon: float
    ) -> Affine:
        """Return what a batch norm computes with running statistics.

        `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta` (Ioffe & Szegedy 2015, Alg. 2).

        Args:
            gamma: (channels,) any float dtype, as the next three.
            beta: (channels,).
            mean: (channels,).
            variance: (channels,), the square of a deviation, >= 0.
            epsilon: added to the variance.

        Raises:
            DegenerateStatisticsError: a value is NaN or infinite, a variance is negative, or
                variance + epsilon is not positive.
        """
        named = {"scale": gamma, "bias": beta, "mean": mean, "variance": variance}
        values = {name: np.asarray(value, np.float64).ravel() for name, value in named.items()}
        for name, value in values.items():
            if not np.isfinite(value).all():
                first = int(np.flatnonzero(~np.isfinite(value))[0])
                raise DegenerateStatisticsError(f"{name}[{first}] is {value[first]}")
        if (values["variance"] < 0).any():
            first = int(np.flatnonzero(values["variance"] < 0)[0])
            raise DegenerateStatisticsError(
                f"variance[{first}] is negative: {values['variance'][first]:g}"
            )
        steadied = values["variance"] + epsilon
        if not (steadied > 0).all():
            first = int(np.flatnonzero(~(steadied > 0))[0])
            raise DegenerateStatisticsError(
                f"variance[{first}] + epsilon is {steadied[first]:g}, not positive"
            )
        scale = values["scale"] / np.sqrt(steadied)
        return cls.of(scale, values["bias"] - values["mean"] * scale)

    @property
    def channels(self) -> int:
        """Number of channels; 1 also stands for "the same for all"."""
        return self.scale.size

    @property
    def is_uniform(self) -> bool:
        """Whether one scale and one shift serve all channels."""
        return self.channels == 1

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return not self.shift.any() and bool((self.scale == 1).all())

    @property
    def shifts(self) -> bool:
        """Whether any shift differs from 0."""
        return bool(self.shift.any())

    @property
    def scale_only(self) -> Affine:
        """This map without its shift."""
        return Affine(self.scale, np.zeros_like(self.shift))

    @property
    def mirrored(self) -> Affine:
        """This map with its shift negated."""
        return Affine(self.scale, -self.shift)

    def after(self, first: Affine) -> Affine:
        """Return `x -> self(first(x))`."""
        return Affine.of(self.scale * first.scale, self.scale * first.shift + self.shift)

    def over(self, channels: int) -> Affine:
        """Return it spelt out over `channels`.

        Raises:
            ValueError: it has another number of channels.
        """
        if self.channels not in (1, channels):
            raise ValueError(f"an affine of {self.channels} channels meets {channels} channels")
        return Affine(np.broadcast_to(self.scale, channels), np.broadcast_to(self.shift, channels))

    def part(self, start: int, stop: int) -> Affine:
        """Return the channels `start` to `stop` - 1."""
        return self if self.is_uniform else Affine(self.scale[start:stop], self.shift[start:stop])

    def spread(self, inner: int, outer: int) -> Affine:
        """Repeat each channel `inner` times in place, then the whole `outer` times."""
        if self.is_uniform:
            return self
        scale, shift = (np.tile(np.repeat(v, inner), outer) for v in (self.scale, self.shift))
        return Affine(scale, shift)

    def apply(self, values: Weights, axis: int) -> Float64s:
        """Return the map of an array whose channels lie along `axis`, broadcast, in float64."""
        shape = [1] * values.ndim
        shape[axis] = self.channels
        return self.scale.reshape(shape) * values.astype(np.float64) + self.shift.reshape(shape)


def absorb_after(weight: Weights, bias: Float64s, affine: Affine) -> tuple[Weights, Float64s]:
    """Return the linear map `x -> affine(weight x + bias)`.

    Args:
        weight: (groups, outputs per group, inputs per group, taps), any float dtype.
        bias: float64 (outputs,).
        affine: of 1 or `outputs` channels.

    Returns:
        The weight in the dtype and layout of `weight`, and the bias in float64.

    Raises:
        OverflowError: a value exceeds what the dtype can hold; says the largest.
        FloatingPointError: a filter falls below it; says its largest value.
    """
    groups, outputs, _, _ = weight.shape
    affine = affine.over(groups * outputs)
    scaled = _scaled(weight, affine.scale.reshape(groups, outputs, 1, 1))
    return scaled, affine.scale * bias + affine.shift


def absorb_before(weight: Weights, bias: Float64s, affine: Affine) -> tuple[Weights, Float64s]:
    """Return the linear map `x -> weight affine(x) + bias`, for inputs that are never padded.

    Args:
        weight: (groups, outputs per group, inputs per group, taps), any float dtype.
        bias: float64 (outputs,).
        affine: of 1 or `groups * inputs per group` channels.

    Returns:
        The weight in the dtype and layout of `weight`, and the bias in float64.

    Raises:
        OverflowError: a value exceeds what the dtype can hold; says the largest.
        FloatingPointError: a filter falls below it; says its largest value.
    """
    groups, _, inputs, _ = weight.shape
    affine = affine.over(groups * inputs)
    scaled = _scaled(weight, affine.scale.reshape(groups, 1, inputs, 1))
    if not affine.shifts:
        return scaled, bias
    summed = weight.sum(axis=3, dtype=np.float64)  # over the taps
    lifted = np.einsum("goi,gi->go", summed, affine.shift.reshape(groups, inputs))
    return scaled, bias + lifted.ravel()


def _scaled(weight: Weights, scale: Float64s) -> Weights:
    """Return the float64 product, rounded once; NumPy buffers it, so no float64 copy is made."""
    product = np.empty_like(weight)
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(weight, scale, out=product, dtype=np.float64, casting="unsafe")
    if not np.isfinite(product).all():
        _refuse_overflow(weight.astype(np.float64) * scale, weight.dtype)
    if weight.dtype == np.float16:  # the others reach down as far as float32
        _refuse_underflow(weight.astype(np.float64) * scale, product)
    return product


def rounded(values: Float64s, dtype: np.dtype[Any]) -> Weights:
    """Return `values` in `dtype`.

    Raises:
        OverflowError: a value exceeds what the dtype can hold; says the largest.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(dtype)
    if not np.isfinite(result).all():
        _refuse_overflow(values, dtype)
    return result


def _refuse_underflow(exact: Float64s, product: Weights) -> None:
    """Refuse filters that are too small for their dtype: rounding by steps of its smallest value.

    Where the largest weight of a filter is a normal number, none errs by more than epsilon / 2 of
    it (IEEE 754).
    """
    largest = np.abs(exact).max(axis=(2, 3), initial=0)
    error = np.abs(product - exact).max(axis=(2, 3), initial=0)
    lost = error > np.finfo(product.dtype).eps * largest
    if lost.any():
        raise FloatingPointError(
            f"a folded filter's largest value {largest[lost].max():g} underflows {product.dtype}"
        )


def _refuse_overflow(values: Float64s, dtype: np.dtype[Any]) -> None:
    if np.isnan(values).any():
        raise OverflowError("the weight holds NaN or infinite values already")
    raise OverflowError(f"the largest folded value {np.abs(values).max():g} overflows {dtype}")
