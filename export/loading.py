"""Reading and writing .onnx files, with the data that large models keep beside them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

from export.graph_shapes import without_initializers
from export.tensors import external_range, inner_tensors, is_external
from flatfold.contract.errors import FlatfoldError
from flatfold.contract.files import check_replaceable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onnx import ModelProto, TensorProto

# A protobuf message ends at 2 GiB; the rest is room for the graph itself.
MAX_INLINE_BYTES = (1 << 31) - (64 << 20)
# Smaller tensors stay in the file when the others go beside it.
MIN_EXTERNAL_BYTES = 1024
# ONNX asks for whole pages, so that a runtime can map the file into memory.
ALIGNMENT = 4096
_COPY_BYTES = 1 << 24


class ModelFileError(FlatfoldError):
    """The file is not an ONNX model that this version can read."""


def load_model(path: str | Path) -> ModelProto:
    """Read an .onnx file and its external data into memory.

    Raises:
        ModelFileError: missing, not ONNX, truncated, or of an opset that is not known.
        ExternalDataError: external data missing, too short, or outside the model's folder.
    """
    model, folder = open_model(path)
    _bring_in(model.graph.initializer, folder)
    return model


def open_model(path: str | Path) -> tuple[ModelProto, Path]:
    """Read an .onnx file, but leave the external data of its initializers where it is.

    Returns:
        The model, and the folder that its external data is relative to.

    Raises:
        ModelFileError: missing, not ONNX, truncated, or of an opset that is not known.
        ExternalDataError: external data missing, too short, or outside the model's folder.
    """
    path = Path(path)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        size = path.stat().st_size
        raise ModelFileError(
            f"{path} is not an ONNX model, or is truncated ({size} bytes do not parse); "
            "get the file anew or export it again"
        ) from error
    _check_header(model, path)
    for tensor in model.graph.initializer:
        if is_external(tensor):
            external_range(tensor, path.parent)
    _bring_in(inner_tensors(model), path.parent)
    return model, path.parent


def _check_header(model: ModelProto, path: Path) -> None:
    if not model.HasField("graph") or not model.ir_version or not model.graph.output:
        raise ModelFileError(f"{path} is not an ONNX model: it has no graph with outputs")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if versions and not 1 <= max(versions) <= newest:
        raise ModelFileError(
            f"{path} is of opset {max(versions)}; onnx {onnx.__version__} knows 1 to {newest}: "
            "update onnx, or export the model for an older opset"
        )
    if not model.opset_import:
        raise ModelFileError(f"{path} is not a whole ONNX model: it names no opset")


def _bring_in(tensors: Iterable[TensorProto], folder: Path) -> None:
    for tensor in tensors:
        if is_external(tensor):
            path, offset, length = external_range(tensor, folder)
            with path.open("rb") as source:
                source.seek(offset)
                tensor.raw_data = source.read(length)
            del tensor.external_data[:]
            tensor.ClearField("data_location")


def save_model(model: ModelProto, path: str | Path, folder: Path | None = None) -> None:
    """Write a model so that a reader sees the old file or the new one; the same model, same bytes.

    A model that is too large for one file, or whose initializers still are external, gets its
    data in `<path>.data` beside it.

    Args:
        model: left as it is.
        path: the .onnx file.
        folder: where data that still is external lies.

    Raises:
        FlatfoldError: the folder does not exist or cannot be written.
    """
    with staged(path) as stage:
        write_model(model, stage, folder)


@contextmanager
def staged(path: str | Path, *, keep: bool = True) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder; what is there when the block ends moves.

    Names inside the file, such as that of its external data, are right in both places. When the
    block raises, nothing is left.

    Args:
        path: where the files go in the end.
        keep: False for files that are needed in the block alone, and never move.

    Raises:
        FlatfoldError: the folder of `path` does not exist or cannot be written, or `path` is
            no file.
    """
    path = check_replaceable(path)
    try:
        with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
            stage = Path(name) / path.name
            yield stage
            # The model comes last: by then the data that it needs is in place.
            files = stage.parent.iterdir() if keep else ()
            for file in sorted(files, key=lambda file: file == stage):
                file.replace(path.parent / file.name)
    except OSError as error:
        raise FlatfoldError(f"cannot write {path}: {error.strerror or error}") from error


def write_model(model: ModelProto, path: Path, folder: Path | None = None) -> None:
    """Write the files of a model at once; see `save_model` for one that may exist already."""
    held = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if held > MAX_INLINE_BYTES or any(map(is_external, model.graph.initializer)):
        with data_path(path).open("wb") as data:
            model = _externalised(model, data, data_path(path).name, folder)
            data.flush()
            os.fsync(data.fileno())
    with path.open("wb") as file:
        file.write(model.SerializeToString(deterministic=True))
        file.flush()
        os.fsync(file.fileno())


def data_path(path: Path) -> Path:
    """Return the file that holds the data of the model at `path` when that is too large for one."""
    return path.with_name(f"{path.name}.data")


def _externalised(
    model: ModelProto, data: BinaryIO, data_name: str, folder: Path | None
) -> ModelProto:
    """Write the initializers' bytes to `data` and return the model that points there."""
    light = without_initializers(model)
    for tensor in model.graph.initializer:
        if not is_external(tensor) and len(tensor.raw_data) < MIN_EXTERNAL_BYTES:
            light.graph.initializer.append(tensor)
            continue
        data.write(bytes(-data.tell() % ALIGNMENT))
        offset = data.tell()
        _copy_bytes(tensor, data, folder)
        entry = light.graph.initializer.add(
            name=tensor.name, data_type=tensor.data_type, dims=tensor.dims
        )
        entry.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": data_name, "offset": offset, "length": data.tell() - offset}
        for key, value in place.items():
            entry.external_data.add(key=key, value=str(value))
    return light


def _copy_bytes(tensor: TensorProto, data: BinaryIO, folder: Path | None) -> None:
    if not is_external(tensor):
        data.write(tensor.raw_data)
        return
    path, offset, length = external_range(tensor, folder)
    with path.open("rb") as source:
        source.seek(offset)
        while length > 0:
            block = source.read(min(length, _COPY_BYTES))
            data.write(block)
            length -= len(block)
