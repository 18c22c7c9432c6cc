"""Tell a broken model from a bug: where something fails on a model, onnx's checker is asked."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import onnx

from export.loading import MAX_INLINE_BYTES
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class InvalidModelError(FlatfoldError):
    """The model breaks ONNX's own rules."""


@contextmanager
def blaming(model: onnx.ModelProto | Path) -> Iterator[None]:
    """Raise what fails in the block as an InvalidModelError where onnx's checker refuses the model.

    The checker is not asked beforehand: it refuses some models that run and fold well.

    Args:
        model: as it came, in memory or as a path.
    """
    try:
        yield
    except (FlatfoldError, OSError):
        raise
    except Exception as error:
        fault = _fault(model)
        if not fault:
            raise
        name = "the model" if isinstance(model, onnx.ModelProto) else model
        raise InvalidModelError(
            f"{name} is not a valid ONNX model: {fault}; repair it, or export it again"
        ) from error


def _fault(model: onnx.ModelProto | Path) -> str:
    """Return what the checker says, in one line; "" where it says nothing or cannot be asked."""
    if not isinstance(model, onnx.ModelProto):
        model = str(model)  # so the checker reads a model of any size
    elif model.ByteSize() > MAX_INLINE_BYTES:
        return ""
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # noqa: BLE001 - its errors share no base of their own
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return lines[0].rstrip(".") if lines else type(error).__name__
    return ""
