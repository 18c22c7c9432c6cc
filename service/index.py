"""The repository's index: what is served, what is not, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Key = tuple[str, str]  # name, version


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One model version.

    Attributes:
        name: the model's name.
        version: its version.
        state: READY or UNAVAILABLE.
        reason: why it is not served, or why its newer file is not; "" when all is well.
    """

    name: str
    version: str
    state: str
    reason: str


def make_index(
    ready: Collection[Key],
    on_disk: Collection[Key],
    unloaded: Collection[str],
    problems: Mapping[Key, str],
) -> list[IndexEntry]:
    """Return an entry for every version that is served, on the disk, or was refused.

    Args:
        ready: what is served.
        on_disk: what has a file.
        unloaded: names that were unloaded by hand.
        problems: what was refused, and why.
    """
    entries = []
    for key in sorted({*ready, *on_disk, *problems}):
        name, version = key
        state, reason = "READY", ""
        if key not in ready:
            state, reason = "UNAVAILABLE", "unloaded" if name in unloaded else "not loaded"
        entries.append(IndexEntry(name, version, state, problems.get(key, reason)))
    return entries
