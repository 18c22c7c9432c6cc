"""What came of the last attempt to load each file, and when it is time for another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from service.layout import Source
    from service.stamp import Stamp


@dataclass(slots=True)
class _Attempt:
    """The file and its folder as they were when it began, and why it failed; "" if it did not."""

    stamp: Stamp = None
    surroundings: Stamp = None
    problem: str = ""


class Attempts:
    """The last attempt at each file.

    What keeps a file from being served may lie beside it: its weights, in a file of their own that
    has yet to come. So a file that failed is due again once anything in its folder has changed.
    """

    def __init__(self) -> None:
        self._last: dict[Path, _Attempt] = {}

    def begin(self, source: Source) -> None:
        """Note an attempt; it goes well unless `fail` says otherwise."""
        self._last[source.path] = _Attempt(source.stamp(), source.surroundings())

    def fail(self, source: Source, problem: str) -> None:
        """Note why the attempt that began last failed."""
        self._last[source.path].problem = problem

    def abandon(self, source: Source) -> None:
        """Forget the attempt that began last: it ended before anything was known of the file."""
        del self._last[source.path]

    def refuse(self, source: Source, problem: str) -> None:
        """Note that an attempt of somebody else's failed: at what is not known, so it is due."""
        self._last[source.path] = _Attempt(problem=problem)

    def problem(self, source: Source) -> str:
        """Return why the last attempt failed; "" when it did not, or there was none."""
        last = self._last.get(source.path)
        return last.problem if last else ""

    def stamp(self, source: Source) -> Stamp:
        """Return what changes when the file is due again."""
        return source.surroundings() if self.problem(source) else source.stamp()

    def is_due(self, source: Source) -> bool:
        """Whether there was no attempt at the file, or it has changed since."""
        last = self._last.get(source.path)
        if last is None:
            return True
        return self.stamp(source) != (last.surroundings if last.problem else last.stamp)

    def forget_all_but(self, on_disk: Collection[Path]) -> None:
        """Forget the attempts at files that are gone: they may come back as they were.

        What is gone may also have been in the way of a file that failed, which is then due again.
        """
        if not self._last.keys() <= set(on_disk):
            self._last = {
                path: last
                for path, last in self._last.items()
                if path in on_disk and not last.problem
            }
