"""Times of one kind, added up."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns


@dataclass(slots=True)
class Duration:
    """How often something happened, and its nanoseconds together."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        """Count one more that took `ns`."""
        self.count += 1
        self.ns += ns

    def lap(self, since: int) -> int:
        """Count one more that began at `since` on `perf_counter_ns`; return the time now."""
        now = perf_counter_ns()
        self.add(now - since)
        return now
