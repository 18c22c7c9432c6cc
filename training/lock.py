"""One run at a time in an output folder."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from flatfold.contract.errors import UsageError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REFUSED = (BlockingIOError, PermissionError)  # what flock says of a lock that another one has


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep `folder`, which must be there, to this run for the length of the block.

    The lock is the kernel's, on the folder itself: it leaves no file, and ends with the process
    however that ends. A file system that has no such lock is trusted to have one run.

    Raises:
        UsageError: another run has it.
    """
    with contextlib.ExitStack() as until_the_end:
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                handle = os.open(folder, os.O_RDONLY)
                until_the_end.callback(os.close, handle)
                _lock(handle, folder)
        yield


def check_free(folder: Path) -> None:
    """Raise a UsageError where another run has `folder`, which may be missing."""
    with held(folder):
        pass


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except REFUSED as error:
        raise UsageError(
            f"another `flatfold train` is at work in {folder}: wait until it ends, or give "
            "another --output"
        ) from error
