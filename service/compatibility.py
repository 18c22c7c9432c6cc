"""Whether a new file may take the place of the one that clients are talking to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.model import Model, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.tensors import TensorSpec


def check_replaces(new: Model, old: Model) -> None:
    """Check that every request right for `old` is right for `new`, and is answered in kind.

    Raises:
        ModelError: other inputs, an output gone or of another kind, or no card any more. A new
            interface wants a new version or name.
    """
    inputs = {_kind(spec) for spec in new.inputs}
    outputs = {_kind(spec) for spec in new.outputs}
    if inputs != {_kind(spec) for spec in old.inputs}:
        raise _incompatible(new, "takes", new.inputs, old.inputs)
    if not outputs >= {_kind(spec) for spec in old.outputs}:
        raise _incompatible(new, "gives", new.outputs, old.outputs)
    if old.card is not None and new.card is None:
        raise ModelError(f"{new.path} has no card, and the one that it replaces has")


def _kind(spec: TensorSpec) -> tuple[str, str, tuple[int, ...]]:
    return (spec.name, spec.datatype, spec.shape)


def _incompatible(
    new: Model, verb: str, now: Sequence[TensorSpec], before: Sequence[TensorSpec]
) -> ModelError:
    return ModelError(
        f"{new.path} {verb} {', '.join(map(str, now))}; the version that it replaces {verb} "
        f"{', '.join(map(str, before))}; give it a version or name of its own"
    )
