"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = Path("/dev")


def check_replaceable(target: str | Path) -> Path:
    """Return `target` as a path, which may be missing or a file in a folder that is there.

    A rename would put a file in the place of a device such as /dev/null, and of the link
    /dev/stdout, even where that leads to a file.

    Raises:
        FlatfoldError: it is a folder, a device or the like, or its folder is missing.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise FlatfoldError(
            f"cannot write {target}: there is no folder {target.parent}; "
            "make it, or give the path of a file in another one"
        )
    is_stream = target.is_symlink() and target.absolute().parent == DEVICES
    if is_stream or (target.exists() and not target.is_file()):
        kind = "a folder" if target.is_dir() else "no regular file"
        raise FlatfoldError(f"cannot write {target}: it is {kind}; give the path of a file")
    return target


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, and rename it onto `target` when the block ends well.

    The file is flushed to disk before the rename, so that a crash leaves a whole file. When the
    block raises, the temporary file is removed and `target` stays as it was.

    Raises:
        FlatfoldError: the folder does not exist or cannot be written, or `target` is no file.
    """
    target = check_replaceable(target)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise FlatfoldError(
            f"cannot write {target}: {error.strerror}; "
            "give a path in a folder that exists and is writable"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise FlatfoldError(f"cannot write {target}: {error.strerror or error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(target: str | Path) -> None:
    """Remove what a killed process left of `atomic_path(target)`; nobody may be writing it now.

    safetensors fills a temporary file of its own beside the one it is given. Its name, .tmpXXXXXX,
    is anybody's: such files are removed only where one of ours tells of a write cut short.
    """
    target = Path(target)
    ours = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}")
    theirs = re.compile(r"\.tmp[A-Za-z0-9]{6}")
    with suppress(OSError):  # what cannot be tidied up is in nobody's way
        files = [path for path in target.parent.iterdir() if path.is_file()]
        cut_short = [path for path in files if ours.fullmatch(path.name)]
        inner = [path for path in files if cut_short and theirs.fullmatch(path.name)]
        for path in (*inner, *cut_short):  # ours last: it tells of theirs
            path.unlink()


def _umask() -> int:
    """Return the process's umask: the only portable way to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
