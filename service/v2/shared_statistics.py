"""Statistics of the whole server where several workers share its port.

Each worker writes its totals into a folder that all of them see; whoever is asked adds them up. A
worker's own totals are exact, the others' are at most `INTERVAL` old. Those of one that died stay.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import orjson

from service.repeating import repeat
from service.v2 import description

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from service.repository import Repository

Entry = dict[str, Any]  # one of the protocol's `model_stats`

INTERVAL = 1.0  # seconds between two looks at a worker's own totals


class SharedStatistics:
    """The folder, as one worker sees it.

    Args:
        folder: exists, empty when the server starts, seen by all of its workers.
        repository: this worker's models.
        worker: this worker's name among them; its process id when None.
    """

    def __init__(self, folder: Path, repository: Repository, worker: str | None = None) -> None:
        self._folder = folder / "statistics"
        self._folder.mkdir(exist_ok=True)
        self._repository = repository
        self._mine = self._folder / (worker or str(os.getpid()))
        self._published = b""

    async def follow(self) -> None:
        """Publish this worker's totals, whenever they changed, until cancelled."""

        async def publish() -> None:
            self.publish()

        await repeat(publish, INTERVAL, "writing this worker's statistics")

    def publish(self) -> None:
        """Write this worker's totals where the others read them."""
        text = orjson.dumps([description.statistics(served) for served in self._repository.all()])
        if text != self._published:
            temporary = self._mine.with_name(f".{self._mine.name}")
            temporary.write_bytes(text)
            temporary.replace(self._mine)  # whole or not at all; it need not outlive a crash
            self._published = text

    def others(self) -> list[Entry]:
        """Return the other workers' entries.

        This worker's are published at once: whoever is asked next counts what was told of them, so
        that totals never go back, also where this worker dies.
        """
        with contextlib.suppress(OSError):  # `follow` tries again, and tells
            self.publish()
        files = [path for path in self._folder.glob("[!.]*") if path != self._mine]
        return [entry for path in files for entry in orjson.loads(path.read_bytes())]


def add_up(own: Iterable[Entry], others: Iterable[Entry]) -> list[Entry]:
    """Return `own`, each with the totals of the same model and version in `others` added."""
    totals = {(entry["name"], entry["version"]): entry for entry in own}
    for entry in others:
        key = (entry["name"], entry["version"])
        if key in totals:
            totals[key] = _sum(totals[key], entry)
    return list(totals.values())


def _sum(one: Entry, other: Entry) -> Entry:
    """Add every number of two entries; the latest time stays the latest."""
    result: Entry = {}
    for key, value in one.items():
        if key == "last_inference":
            result[key] = max(value, other[key])
        elif key == "batch_stats":
            result[key] = _sum_batches([*value, *other[key]])
        elif isinstance(value, dict):
            result[key] = _sum(value, other[key])
        else:
            result[key] = value + other[key] if isinstance(value, int) else value
    return result


def _sum_batches(batches: list[Entry]) -> list[Entry]:
    by_size: dict[int, Entry] = {}
    for batch in batches:
        size = batch["batch_size"]
        by_size[size] = (
            _sum(by_size[size], batch) | {"batch_size": size} if size in by_size else batch
        )
    return [by_size[size] for size in sorted(by_size)]
