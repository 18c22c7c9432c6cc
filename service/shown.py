"""What a client sent, as an error repeats it: enough to recognise it, whatever its size."""

from __future__ import annotations

import reprlib

MOST = 200  # characters

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100  # the names of models and tensors stay whole
_short.maxlevel = 3


def shown(value: object) -> str:
    """Return the value as Python writes it, cut short; of a large one only that much is read."""
    text = _short.repr(value)
    return text if len(text) <= MOST else f"{text[:MOST]}..."
