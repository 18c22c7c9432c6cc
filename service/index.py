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
    reasons: Mapping[Key, str],
) -> list[IndexEntry]:
    """Return an entry for every version that is served or on the disk.

    Args:
        ready: what is served.
        on_disk: what has a file.
        unloaded: names that were unloaded by hand.
        reasons: why a version's file is not what is served; no entry where nothing is to be said.
    """
    entries = []
    for key in sorted({*ready, *on_disk}):
        name, version = key
        state, reason = "READY", reasons.get(key, "")
        if key not in ready:
            state = "UNAVAILABLE"
            reason = "unloaded" if name in unloaded else reason or "not loaded"
        entries.append(IndexEntry(name, version, state, reason))
    return entries
