"""What the workers of one server share: a folder, named in the environment, and files in it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from flatfold.contract.errors import FlatfoldError

# Set by the parent of several workers, for all of them: their metrics, orders and totals lie there.
SHARED_FOLDER = "FLATFOLD_SHARED_FOLDER"

LEAST_ROOM = 16_000_000  # bytes; a worker's files take some 400 KB, and those of dead ones stay


def why_no_folder() -> str:
    """Return why there can be no such folder; "" where there can."""
    try:
        parent = tempfile.gettempdir()
        free = shutil.disk_usage(parent).free
    except OSError as error:
        return str(error)
    if free < LEAST_ROOM:
        return f"{parent} has room for {free:,} bytes; expected {LEAST_ROOM:,} at least"
    return ""


def shared_folder() -> Path | None:
    """Return the folder; None where one process is the whole server."""
    folder = os.environ.get(SHARED_FOLDER)
    return None if folder is None else Path(folder)


def reserve(path: Path, size: int) -> None:
    """Have the disk keep room for the first `size` bytes of a file; what is in them stays.

    A page of a mapped file that finds no room as it is first written ends its process, as soon as
    somebody else has filled the disk.

    Raises:
        FlatfoldError: there is no room now.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot
            raise FlatfoldError(f"cannot write {path}: {error.strerror}") from error


def receipts(folder: Path) -> Path:
    """Return where the workers say which orders to load and unload they have carried out."""
    return folder / "receipts"


def forget_worker(folder: Path, pid: int) -> None:
    """Leave a worker that has ended out of what the others wait for and add up.

    What it counted stays; files in which it counted nothing go.
    """
    from prometheus_client import multiprocess  # noqa: PLC0415 (slow, and seldom needed)

    (receipts(folder) / str(pid)).unlink(missing_ok=True)
    multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # theirs
    for file in folder.glob(f"*_{pid}.db"):
        with file.open("rb") as counts:
            used = any(counts.read(4))  # a number, of the bytes that are
        if not used:
            file.unlink()
