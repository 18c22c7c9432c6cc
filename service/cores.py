"""How many CPU cores this process may use, and how many processes make the most of them."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from service.shared import why_no_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

# Processes share most pages of code, but each has the models and what it computes with them.
MOST_WORKERS = 4
MEMORY_EACH = 256 << 20  # bytes of a container's limit
# Bytes for each byte of a model's file while it is loaded: two sessions, and what reads the second.
_LOADING = 3
# cgroup v2: "quota period" or "max period" in microseconds; bytes or "max".
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MEMORY = Path("/sys/fs/cgroup/memory.max")

logger = logging.getLogger(__name__)


def usable_cores() -> int:
    """Return the number of cores, at least 1; a container's CPU limit counts, rounded up."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores


def worker_count(provider: str, models: Iterable[str] = ()) -> int:
    """Return how many processes serve best: one for a GPU, else one a core, four at most.

    One Python process decodes and answers on one core at a time, however many there are. Each has
    its own copy of the models, though, and four keep many cores busy with threads. In a container
    of little memory for so large models there are fewer.

    Args:
        provider: as in the settings.
        models: likewise.
    """
    if sys.platform == "win32" or not _is_cpu(provider):
        return 1
    if reason := why_no_folder():
        logger.info("one process serves: several need a folder for temporary files: %s", reason)
        return 1
    each = MEMORY_EACH + _LOADING * sum(map(_size, models))
    return max(1, min(usable_cores(), MOST_WORKERS, _memory() // each))


def _size(models: str) -> int:
    """Return the bytes of a model file and its weights beside it, or of all in a folder."""
    path = Path(models)
    try:
        files = path.rglob("*.onnx*") if path.is_dir() else path.parent.glob(f"{path.name}*")
        return sum(file.stat().st_size for file in files)
    except (OSError, ValueError):  # whoever loads them will tell
        return 0


def _memory() -> int:
    """Return the bytes that a container's limit allows."""
    try:
        return int(_MEMORY.read_text())
    except (OSError, ValueError):
        return sys.maxsize


def _is_cpu(provider: str) -> bool:
    """Whether onnxruntime's own CPU provider will run the models; it is not imported for that."""
    if provider != "auto":
        return provider == "cpu"
    package = importlib.util.find_spec("onnxruntime")
    folders = package.submodule_search_locations if package else None
    others = "*onnxruntime_providers_*"
    libraries = {file.stem for folder in folders or () for file in Path(folder).rglob(others)}
    return libraries <= {"libonnxruntime_providers_shared"}
