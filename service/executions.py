"""What an execution gave one request, and counts and times of all of them, by batch size."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from service.duration import Duration

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Execution(NamedTuple):
    """What a model gave one request.

    Attributes:
        arrays: output name -> array, of this request's rows alone.
        seconds: in the runtime, of every batch that this request had rows in, added up.
    """

    arrays: dict[str, NDArray[Any]]
    seconds: float


class Executions:
    """A model's executions so far; written by the threads that run it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_rows: dict[int, Duration] = {}

    def add(self, rows: int, nanoseconds: int) -> None:
        """Count one execution of a batch of `rows`."""
        with self._lock:
            self._by_rows.setdefault(rows, Duration()).add(nanoseconds)

    def by_rows(self) -> dict[int, Duration]:
        """Return a copy: batch size -> total, smallest batch first."""
        with self._lock:
            return {rows: replace(total) for rows, total in sorted(self._by_rows.items())}
