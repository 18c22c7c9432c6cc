"""Which model files lie on the disk: single files, folders of files, Triton's folders of versions.

models/NAME.onnx                  version 1
models/NAME/VERSION/model.onnx    VERSION a whole number, the highest is the default
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.model import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Stamp = tuple[int, int, int] | None
SUFFIX = ".onnx"
VERSIONED_FILE = "model.onnx"


@dataclass(frozen=True, slots=True)
class Source:
    """One model file.

    Attributes:
        path: the .onnx file.
        name: the model's name; None for a file given by itself, which its card names.
        version: a text of digits.
    """

    path: Path
    name: str | None
    version: str

    def stamp(self) -> Stamp:
        """Return what changes when the file does (time in ns, size, inode); None without a file."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino)


def find(roots: Sequence[Path]) -> list[Source]:
    """Return the model files below `roots`, files first as they are given, folders in name order.

    A file need not exist: loading it says so.

    Raises:
        ModelError: a folder does not exist or cannot be read.
    """
    found: list[Source] = []
    for root in roots:
        if root.suffix == SUFFIX and not root.is_dir():
            found.append(Source(root, None, "1"))
            continue
        try:
            found += _versions(root) or _models(root)
        except OSError as error:
            raise ModelError(
                f"{root} is neither an .onnx file nor a folder that can be read: {error.strerror}"
            ) from error
    return found


def _models(folder: Path) -> Iterator[Source]:
    """Models of a folder. Names with a leading dot are files that are still being written."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _versions(entry)
        elif entry.suffix == SUFFIX:
            yield Source(entry, entry.stem, "1")


def _versions(folder: Path) -> list[Source]:
    """Versions of one model's folder, the lowest first; none when it is no such folder."""
    numbers = sorted(
        (int(entry.name), entry)
        for entry in folder.iterdir()
        if entry.name.isascii() and entry.name.isdigit() and (entry / VERSIONED_FILE).is_file()
    )
    return [Source(entry / VERSIONED_FILE, folder.name, str(number)) for number, entry in numbers]
