"""File descriptors: each connection takes one, and a process may have only so many."""

from __future__ import annotations

import contextlib
import os
import sys

from flatfold.contract.errors import FlatfoldError

FEWEST = 64  # two workers with a model start with 24


def allow_many() -> None:
    """Raise this process's soft limit to the hard one; those that it starts inherit it.

    The usual soft limit, 1024, is soon reached by connections that are kept open, and each one
    beyond it would be reset without an answer. Where the system does not allow it, nothing changes.

    Raises:
        FlatfoldError: the hard limit is too low to serve at all.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 (not on Windows)

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < FEWEST:
        raise FlatfoldError(
            f"this process may open {hard} files; serving takes {FEWEST} at least (ulimit -n)"
        )
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def is_room_for(another: int) -> bool:
    """Whether a further descriptor like `another` can be had right now."""
    try:
        os.close(os.dup(another))
    except OSError:
        return False
    return True
