"""Compare the outputs of two models, channel by channel: plain NumPy, nothing is run here.

The error of a channel is the root mean square (RMS) of the difference over the RMS of the channel,
so that a channel with small values cannot hide behind one with large values. The largest single
difference, the peak, has a limit of its own: an error at the border alone drowns in a mean. Its
scale is the RMS of the values that are not zero: where ReLU has left one value of a thousand, the
channel's RMS is a thirtieth of that value, and rounding would look like an error.

Channels are axis 1, and the last axis of outputs with three axes or more as well: models from
TensorFlow and transformers have theirs there, and nothing tells one layout from the other.

Probabilities are held to the RMS of all their channels, which lies between 1 / classes and 1: a
class that a confident model never predicts is 1e-20 or 0, and nothing but rounding.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Outputs: TypeAlias = "dict[str, NDArray[Any]]"

FEWEST = 64  # values along the last axis whose RMS means something
PEAK_FACTOR = 10  # a peak may be this many times the allowed error: rounding scatters
# Where the original's own rounding noise is known, an error of a few times that is no fault of
# the change; the cap keeps a chaotic original from excusing everything.
NOISE_FACTOR = 4
NOISE_CAP = 100  # tolerances
FLIPS_SHOWN = 3
SUM_SLACK = 1e-2  # how far probabilities may add up from 1: float16 rounds that much


@dataclass(frozen=True)
class Flip:
    """One row whose largest class changed; `margin` is how far ahead the old class was."""

    output: str
    row: int
    before: int
    after: int
    margin: float


@dataclass(frozen=True)
class OutputError:
    """The worst channel of one output.

    Attributes:
        output: the output's name.
        channel: the channel nearest to, or farthest past, what is allowed.
        error: RMS(changed - original) / RMS(original) of that channel.
        peak: max |changed - original| / RMS(original where it is not zero) of that channel.
        allowed: largest error allowed there; the peak may be ten times that.
        axis: which axis the channel is of.
    """

    output: str
    channel: int
    error: float
    peak: float
    allowed: float
    axis: int = 1

    @property
    def excess(self) -> float:
        """How much of what is allowed is used; the channel passes up to 1."""
        return max(self.error, self.peak / PEAK_FACTOR) / self.allowed


@dataclass(frozen=True)
class Proof:
    """What was compared and how well it agrees.

    Attributes:
        samples: rows compared, random ones and pictures.
        images: how many of them were real pictures.
        tolerance: the largest error asked for, in parts of a channel's RMS.
        top1_agreement: share of rows with the same largest class; None without class outputs.
        errors: the worst channel of each output.
        flips: every row whose largest class changed.
    """

    samples: int
    images: int
    tolerance: float
    top1_agreement: float | None
    errors: tuple[OutputError, ...]
    flips: tuple[Flip, ...]

    @property
    def worst(self) -> OutputError:
        """The worst channel of all outputs."""
        return max(self.errors, key=lambda entry: entry.excess)

    @property
    def holds(self) -> bool:
        """Whether every channel is within what is allowed."""
        return all(entry.excess <= 1 for entry in self.errors)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "holds": self.holds, "error": self.worst.error}

    def summary(self) -> str:
        """Return one readable line."""
        worst = self.worst
        axis = "" if worst.axis == 1 else f" of axis {worst.axis}"
        text = (
            f"{self.samples} samples ({self.images} pictures): largest error {worst.error:.1e} of "
            f"the channel's RMS ({worst.allowed:.0e} allowed; output {worst.output!r}, "
            f"channel {worst.channel}{axis}, peak {worst.peak:.1e})"
        )
        if self.top1_agreement is not None:
            text += f", top-1 agreement {self.top1_agreement:.2%}"
        for flip in self.flips[:FLIPS_SHOWN]:
            change = f"{flip.before} -> {flip.after}, margin {flip.margin:.1e}"
            text += f"; row {flip.row}: {change}"
        return text


class ProofError(FlatfoldError):
    """The two models differ or cannot be compared; `proof` holds the figures if there are any."""

    def __init__(self, message: str, proof: Proof | None = None) -> None:
        super().__init__(message)
        self.proof = proof


def compare(  # noqa: PLR0913  each is one independent knob of the comparison
    before: Outputs,
    after: Outputs,
    *,
    tolerance: float,
    images: int = 0,
    noise: Sequence[Outputs] = (),
    ties: bool = False,
) -> Proof:
    """Compare outputs of the same name, each (rows, channels, ...).

    Args:
        before: what the original gives.
        after: what the changed model gives.
        tolerance: largest error allowed.
        images: how many rows were real pictures, for the record.
        noise: the original once more or several times, in float64 or in another order of
            operations; each with all outputs or some, and all rows or the first ones. An error up
            to `NOISE_FACTOR` times the largest such difference is allowed as well.
        ties: the models round to whole steps inside, and are known to agree but for rounding. A
            value halfway falls either way, so single peaks are no error, and up to `NOISE_CAP`
            tolerances are none in the mean.

    Raises:
        ProofError: the outputs or a shape changed, or the original gives nothing finite.
    """
    if before.keys() != after.keys():
        raise ProofError(f"the outputs differ: {sorted(before)} against {sorted(after)}")
    errors = []
    flips: list[Flip] = []
    agreements = []
    for name, old in before.items():
        new = after[name]
        if old.shape != new.shape:
            raise ProofError(f"output {name!r} has the shape {new.shape}, the original {old.shape}")
        if old.dtype.kind not in "biufc":
            if not np.array_equal(old, new):
                raise ProofError(f"output {name!r}, of {old.dtype.name} values, is not the same")
            errors.append(OutputError(name, 0, 0.0, 0.0, tolerance))
            continue
        again = [outputs[name] for outputs in noise if name in outputs]
        errors.append(_worst_channel(_Output(name, old, new, again), tolerance, ties=ties))
        if old.ndim == 2 and old.shape[1] > 1 and old.dtype.kind == "f":
            found = _flips(name, old, new)
            flips += found
            agreements.append(1 - len(found) / max(1, len(old)))
    rows = max((len(value) for value in before.values() if value.ndim), default=1)
    agreement = min(agreements) if agreements else None
    return Proof(rows, images, tolerance, agreement, tuple(errors), tuple(flips))


@dataclass(frozen=True)
class _Output:
    """One output of both models, and of the original again, all rows or the first ones."""

    name: str
    before: NDArray[Any]
    after: NDArray[Any]
    again: Sequence[NDArray[Any]]


def _worst_channel(output: _Output, tolerance: float, *, ties: bool) -> OutputError:
    before = output.before
    if not before.size:
        return OutputError(output.name, 0, 0.0, 0.0, tolerance)
    if not np.isfinite(before).any():
        raise ProofError(
            f"output {output.name!r} of the original has no finite value: nothing to compare"
        )
    last = before.ndim - 1
    axes = [1, last] if last > 1 and before.size >= FEWEST * before.shape[last] else [1]
    entries = (entry for axis in axes for entry in _channels(output, axis, tolerance, ties=ties))
    return max(entries, key=lambda entry: entry.excess)


def _channels(output: _Output, axis: int, tolerance: float, *, ties: bool) -> Iterator[OutputError]:
    """Yield every channel along one axis."""
    before = _by_channel(output.before, axis)
    together = _are_probabilities(output.before, axis)
    errors, peaks = _errors(before, _by_channel(output.after, axis), together=together)
    allowed = np.full(len(before), tolerance)
    for values in output.again:
        whole = values.shape == output.before.shape
        first = before if whole else _by_channel(output.before[: len(values)], axis)
        rounding, _ = _errors(first, _by_channel(values, axis), together=together)
        allowed = np.clip(NOISE_FACTOR * rounding, allowed, NOISE_CAP * tolerance)
    if ties:
        allowed[:] = NOISE_CAP * tolerance
        allowed = np.where(errors <= allowed, np.maximum(allowed, peaks / PEAK_FACTOR), allowed)
    for channel, (error, peak, limit) in enumerate(zip(errors, peaks, allowed, strict=True)):
        yield OutputError(output.name, channel, float(error), float(peak), float(limit), axis)


def _by_channel(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Return (channels, rest); without such an axis, all values are one channel."""
    if values.ndim < 2:
        return values.reshape(1, -1).astype(np.float64)
    channels = values.shape[axis]
    return (
        np.moveaxis(values, axis, 0)
        .reshape(channels, values.size // max(1, channels))
        .astype(np.float64)
    )


def _are_probabilities(values: NDArray[Any], axis: int) -> bool:
    """Whether every row is a distribution over `axis`: within 0 to 1, and 1 in sum."""
    if values.ndim < 2 or values.shape[axis] < 2 or values.dtype.kind != "f":
        return False
    wide = values.astype(np.float64)
    in_range = bool((wide >= 0).all() and (wide <= 1 + SUM_SLACK).all())
    return in_range and bool(np.abs(wide.sum(axis=axis) - 1).max() < SUM_SLACK)


def _errors(
    before: NDArray[np.float64], after: NDArray[np.float64], *, together: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return error and peak of each channel; both are infinite where only one side is finite.

    With `together`, all channels are held to the scale of the whole output.
    """
    finite = np.isfinite(before)
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(after - before))
    gap[~np.isfinite(gap)] = np.inf
    square = np.where(finite, before, 0.0) ** 2
    # A channel that is zero throughout is held to the output's own scale.
    whole = np.sqrt(square.mean()) or 1.0
    total = square.sum(axis=1)

    def scale(values: NDArray[np.bool_]) -> NDArray[np.float64]:
        rms = np.sqrt(total / np.maximum(values.sum(axis=1), 1))
        return np.where((total > 0) & (not together), rms, whole)

    peaks = gap.max(axis=1) / scale(finite & (before != 0))
    return np.sqrt((gap**2).mean(axis=1)) / scale(finite), peaks


def _flips(name: str, old: NDArray[Any], new: NDArray[Any]) -> list[Flip]:
    before, after = old.argmax(axis=1), new.argmax(axis=1)
    ordered = np.sort(old, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    return [
        Flip(name, int(row), int(before[row]), int(after[row]), float(margins[row]))
        for row in np.flatnonzero(before != after)
    ]
