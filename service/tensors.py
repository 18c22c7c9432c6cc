"""What a tensor at a model's border is: a name, an Open Inference Protocol datatype and a shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Protocol datatype -> NumPy dtype, little-endian as on the wire. BYTES elements are Python bytes.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}

# onnxruntime's name of an element type -> protocol datatype.
ONNX_DATATYPES: dict[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

VARIABLE = -1


def from_bytes(data: bytes | memoryview, datatype: str, count: int = -1) -> NDArray[Any]:
    """Return the first `count` elements of `data`, all of them for -1, in one dimension.

    Numbers are a view into `data`. A BOOL is true for any byte but 0, where NumPy would keep it.

    Raises:
        ValueError: no whole number of elements, or fewer than `count`.
    """
    if datatype == "BOOL":
        return np.frombuffer(data, np.uint8, count).astype(np.bool_)
    return np.frombuffer(data, DTYPES[datatype], count)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the graph's name for it.
        datatype: protocol datatype, a key of `DTYPES`.
        shape: its sizes; -1 where any size is accepted.
        symbols: per axis the graph's name of a variable size, such as "batch"; "" without one.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    symbols: tuple[str, ...]

    @classmethod
    def from_onnx(cls, name: str, kind: str, dims: Sequence[int | str | None]) -> TensorSpec | None:
        """Read onnxruntime's description; None when `kind` is no tensor that the protocol carries.

        Args:
            name: the graph's name of the input or output.
            kind: onnxruntime's type, such as "tensor(float)".
            dims: sizes; a text or None where variable.
        """
        datatype = ONNX_DATATYPES.get(kind)
        if datatype is None:
            return None
        shape = tuple(size if isinstance(size, int) else VARIABLE for size in dims)
        symbols = tuple(size if isinstance(size, str) else "" for size in dims)
        return cls(name, datatype, shape, symbols)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of its elements; object for BYTES."""
        return DTYPES[self.datatype]

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether `shape` has the right rank and sizes."""
        if shape[1:] == self.shape[1:] and shape and self.shape[:1] == (VARIABLE,):
            return True  # most often only the batch varies
        return len(shape) == len(self.shape) and all(
            want in (VARIABLE, got) for want, got in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        return f"{self.name} {self.datatype} {list(self.shape)}"
