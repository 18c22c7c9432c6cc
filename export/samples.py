"""Draw inputs for a model from what it declares: names, element types and shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

Feeds: TypeAlias = "dict[str, NDArray[Any]]"

# Sizes tried, in turn, for every dynamic dimension but the first: a network may need a multiple.
DYNAMIC_SIZES = (32, 64, 224, 8, 1)
BATCH = 16  # rows of one run where the first dimension is dynamic

_FLOATS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}
_INTEGERS = {
    "tensor(uint8)": (np.uint8, 0, 256),
    "tensor(int8)": (np.int8, -128, 128),
    # Most often an index, a count or a length: small values are the valid ones.
    "tensor(int32)": (np.int32, 0, 2),
    "tensor(int64)": (np.int64, 0, 2),
    "tensor(bool)": (np.bool_, 0, 2),
}


class SampleError(FlatfoldError):
    """No input can be made for this model."""


@dataclass(frozen=True)
class InputSpec:
    """One input of a graph.

    Attributes:
        name: the input's name.
        kind: onnxruntime's name of its type, e.g. "tensor(float)".
        shape: a number for each fixed dimension, a name or None for each dynamic one.
    """

    name: str
    kind: str
    shape: tuple[int | str | None, ...]

    @property
    def dynamic_batch(self) -> bool:
        """Whether the first dimension is free."""
        return bool(self.shape) and not isinstance(self.shape[0], int)


def input_specs(session: onnxruntime.InferenceSession) -> tuple[InputSpec, ...]:
    """Return what the session wants to be fed."""
    return tuple(InputSpec(i.name, i.type, tuple(i.shape)) for i in session.get_inputs())


def random_feeds(
    specs: tuple[InputSpec, ...], samples: int, size: int, rng: np.random.Generator
) -> list[Feeds]:
    """Draw about `samples` rows, split into runs.

    Args:
        specs: the model's inputs.
        samples: rows wanted; a model with a fixed batch is run as often as that takes.
        size: value of every dynamic dimension but the first.
        rng: the source of chance.

    Raises:
        SampleError: an input is of a type that has no random values here.
    """
    if any(spec.dynamic_batch for spec in specs):
        batches = [min(BATCH, samples - start) for start in range(0, samples, BATCH)]
    else:
        rows = max((int(spec.shape[0] or 1) for spec in specs if spec.shape), default=1)
        batches = [1] * -(-samples // max(1, rows))
    return [{spec.name: _draw(spec, batch, size, rng) for spec in specs} for batch in batches]


def _draw(spec: InputSpec, batch: int, size: int, rng: np.random.Generator) -> NDArray[Any]:
    free = (batch if axis == 0 else size for axis in range(len(spec.shape)))
    shape = [
        known if isinstance(known, int) else value
        for known, value in zip(spec.shape, free, strict=True)
    ]
    if spec.kind in _FLOATS:
        # A vector is most often a parameter, perhaps a variance, that has to be positive.
        values = rng.uniform(0.5, 1.5, shape) if len(shape) == 1 else rng.standard_normal(shape)
        return values.astype(_FLOATS[spec.kind])
    if spec.kind in _INTEGERS:
        dtype, start, end = _INTEGERS[spec.kind]
        return rng.integers(start, end, shape).astype(dtype)
    raise SampleError(
        f"input {spec.name!r} is {spec.kind}; random values are drawn for "
        f"{', '.join([*_FLOATS, *_INTEGERS])}"
    )


def image_feeds(specs: tuple[InputSpec, ...], images: NDArray[np.uint8]) -> list[Feeds]:
    """Lay out real pictures, uint8 (n, height, width, 3), the way the model's one input wants them.

    uint8 inputs get them as they are; float inputs get them as (n, 3, height, width) / 255,
    moved to zero mean and unit deviation, as nearly every image network expects.

    Raises:
        SampleError: the model has several inputs, or its size or type is another.
    """
    if len(specs) != 1:
        raise SampleError(f"pictures need a model with one input; this one has {len(specs)}")
    spec = specs[0]
    if spec.kind == "tensor(uint8)":
        values: NDArray[Any] = images
    elif spec.kind in _FLOATS:
        scaled = images.transpose(0, 3, 1, 2) / 255.0
        values = ((scaled - scaled.mean()) / max(scaled.std(), 1e-6)).astype(_FLOATS[spec.kind])
    else:
        raise SampleError(f"input {spec.name!r} is {spec.kind}, which takes no pictures")
    fits = len(spec.shape) == values.ndim and all(
        not isinstance(want, int) or want == have
        for want, have in zip(spec.shape[1:], values.shape[1:], strict=True)
    )
    if not fits:
        raise SampleError(
            f"input {spec.name!r} has the shape {list(spec.shape)}; "
            f"the pictures give {list(values.shape)}"
        )
    step = BATCH if spec.dynamic_batch else int(spec.shape[0] or 1)
    whole = len(values) - len(values) % step if not spec.dynamic_batch else len(values)
    return [{spec.name: values[start : start + step]} for start in range(0, whole, step)]
