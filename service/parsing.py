"""JSON from outside, whatever its size."""

from __future__ import annotations

import gc
from typing import Any

import orjson


def parse_json(text: bytes | memoryview) -> Any:
    """Return `text` as Python objects.

    Python 3.11 looks for garbage time and again while a million small arrays come up, of which
    none is: that is four fifths of the time, and every other thread waits for all of it.

    Raises:
        orjson.JSONDecodeError: not JSON.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(text)
    finally:
        if collecting:
            gc.enable()
