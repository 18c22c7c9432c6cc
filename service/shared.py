"""What the workers of one server share: a folder, named in the environment, and files in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

# Set by the parent of several workers, for all of them: their metrics, orders and totals lie there.
SHARED_FOLDER = "FLATFOLD_SHARED_FOLDER"

# A page of a mapped file that finds no room ends its process. A worker's files take some 100 KB.
LEAST_ROOM = 16_000_000  # bytes


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


def receipts(folder: Path) -> Path:
    """Return where the workers say which orders to load and unload they have carried out."""
    return folder / "receipts"


def forget_worker(folder: Path, pid: int) -> None:
    """Leave a worker that has ended out of what the others wait for and add up.

    What it counted stays.
    """
    from prometheus_client import multiprocess  # noqa: PLC0415 (slow, and seldom needed)

    (receipts(folder) / str(pid)).unlink(missing_ok=True)
    multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]  # theirs
