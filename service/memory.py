"""Giving memory back to the system."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Return freed pages: reading a model leaves about its size behind, free but not returned.

    glibc alone has the call; elsewhere nothing happens.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return
