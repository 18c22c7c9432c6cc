"""What tells one state of a file from another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Stamp = tuple[object, ...] | None  # to be compared, never read


def stamp(path: Path) -> Stamp:
    """Return what changes when a file or the right to read it does; None without a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
