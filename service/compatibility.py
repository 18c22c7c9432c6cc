"""Whether a new file may take the place of the one that clients are talking to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.model import Model, ModelError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from service.tensors import TensorSpec


def check_gone(new: Model, old: Model, on_disk: Collection[Path], given: Collection[Path]) -> None:
    """Check that `new` may take the place of a model that came from another file.

    Args:
        new: of the same name and version as the old.
        old: what is served.
        on_disk: the files that are there.
        given: files and folders that the server was started with.

    Raises:
        ModelError: the old one's file is still there.
    """
    if old.path not in on_disk:
        return
    # A file given by itself is named by its card, one in a folder by the folder.
    advice = "rename one"
    if not {old.path, new.path}.isdisjoint(given):
        advice = (
            "a file given by itself is named by its card: put the files into a folder, where "
            "file names count, and serve the folder"
        )
    raise ModelError(
        f"{old.path} and {new.path} are both {old.name!r} version {old.version}; {advice}"
    )


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
