"""Which model files lie on the disk: single files, folders of files, Triton's folders of versions.

models/NAME.onnx                  version 1
models/NAME/VERSION/model.onnx    VERSION a whole number, the highest is the default
"""

from __future__ import annotations

import logging
import os.path
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from service.model import ModelError
from service.stamp import Stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIX = ".onnx"
VERSIONED_FILE = "model.onnx"

logger = logging.getLogger(__name__)


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

    @property
    def key(self) -> tuple[str, str]:
        """The name and version that it is served by, as far as they are known before it is read."""
        return (self.name or self.path.stem, self.version)

    def stamp(self) -> Stamp:
        """Return what changes when the file or the right to read it does; None without a file."""
        return stamp(self.path)

    def surroundings(self) -> Stamp:
        """Return what changes when the file or any other in its folder does."""
        try:
            beside = frozenset((file.name, stamp(file)) for file in self.path.parent.iterdir())
        except OSError:
            return self.stamp()
        return (hash(beside),)  # short, for there may be many files, and many sources among them


def find(roots: Sequence[Path]) -> list[Source]:
    """Return the model files below `roots`, files first as they are given, folders in name order.

    A file need not exist: loading it says so. What cannot be read inside a folder, `lost+found` of
    a mounted volume for example, is left out with a warning, and so is a name that is not UTF-8.

    Raises:
        ModelError: a folder that was given does not exist or cannot be read.
    """
    found: list[Source] = []
    for root in roots:
        try:
            found += _root(root)
        except OSError as error:
            raise ModelError(
                f"{root} is neither an .onnx file nor a folder that can be read: {error.strerror}"
            ) from error
    return found


def _root(root: Path) -> list[Source]:
    """Return the sources that one file or folder given by itself stands for."""
    if root.suffix == SUFFIX and not root.is_dir():
        return [Source(root, None, "1")]
    return _versions(root) or _models(root)


def _models(folder: Path) -> list[Source]:
    """Models of a folder. Names with a leading dot are files that are still being written."""
    found: list[Source] = []
    for entry in sorted(folder.iterdir()):
        try:
            found += _model(entry)
        except OSError as error:
            _leave_out(entry, str(error.strerror))
    return found


def _model(entry: Path) -> list[Source]:
    """Return the sources that one entry of a folder stands for."""
    if entry.name.startswith("."):
        return []
    if entry.is_dir():
        sources = _versions(entry)
    else:
        sources = [Source(entry, entry.stem, "1")] if entry.suffix == SUFFIX else []
    if sources and _printable(entry) != str(entry):  # no answer can hold its name
        _leave_out(entry, "its name is not UTF-8")
        return []
    return sources


def _versions(folder: Path) -> list[Source]:
    """Versions of one model's folder, the lowest first; none when it is no such folder."""
    # "." and ".." have names, too; resolve() would follow a link, whose own name is the model's.
    name = Path(os.path.abspath(folder)).name  # noqa: PTH100
    numbers = sorted((int(entry.name), entry) for entry in folder.iterdir() if _is_version(entry))
    return [Source(entry / VERSIONED_FILE, name, str(number)) for number, entry in numbers]


def _is_version(entry: Path) -> bool:
    try:
        return entry.name.isascii() and entry.name.isdigit() and (entry / VERSIONED_FILE).is_file()
    except OSError as error:
        _leave_out(entry, str(error.strerror))
        return False


@lru_cache(maxsize=1024)  # said once, not at every poll
def _leave_out(entry: Path, reason: str) -> None:
    logger.warning("%s cannot be read and is left out: %s", _printable(entry), reason)


def _printable(path: Path) -> str:
    """Return a path with escapes for bytes that are not UTF-8, which Python keeps as surrogates."""
    return str(path).encode(errors="backslashreplace").decode()
