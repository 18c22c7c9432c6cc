"""Raw results: one JSON line a measurement, appended as it is made, so that a run can resume.

Lines of another kind, {"facts": {...}}, say of the measurements after them where and how they were
made: a table that is written later must not name another commit or machine.
"""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FLOOR = "floor"
Key = tuple[int, str, str, str]  # round, model, server, cell


def key_of(row: dict[str, Any]) -> Key:
    """Return what makes a measurement one of its kind."""
    return (row["round"], row["model"], row["server"], row["cell"])


class Results:
    """The measurements of one run.

    Args:
        path: the file of JSON lines; what it holds already counts as measured.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.rows = [entry for entry in entries if "facts" not in entry]
        self._facts: list[dict[str, str]] = [e["facts"] for e in entries if "facts" in e]
        self._known = {key_of(row) for row in self.rows}

    def has(self, key: Key) -> bool:
        """Return whether this was measured."""
        return key in self._known

    def add(self, **row: Any) -> None:
        """Keep one measurement, on disk before anything else happens."""
        self._append(row)
        self.rows.append(row)
        self._known.add(key_of(row))

    def note(self, facts: dict[str, str]) -> None:
        """Keep how the next measurements are made, unless the last ones were made the same way."""
        if facts not in self._facts[-1:]:
            self._append({"facts": facts})
            self._facts.append(facts)

    def facts(self) -> dict[str, str]:
        """Return how all measurements were made; where runs differ, one value after the other."""
        found: dict[str, dict[str, None]] = {}
        for facts in self._facts:
            for key, value in facts.items():
                found.setdefault(key, {})[value] = None
        return {key: "; ".join(different) for key, different in found.items()}

    def _append(self, entry: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def select(rows: Iterable[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """Return the rows with these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def values(rows: Iterable[dict[str, Any]], field: str) -> list[float]:
    """Return one field of the rows that have it."""
    return [row[field] for row in rows if row.get(field) is not None]


def shares(rows: list[dict[str, Any]], model: str, server: str, cell: str) -> list[float]:
    """Return, for each round, the server's rate as a share of the floor of that same round."""
    kind = cell.split(":", maxsplit=1)[0]
    floors = {
        row["round"]: row["rate"] for row in select(rows, model=model, server=FLOOR, cell=kind)
    }
    return [
        row["rate"] / floors[row["round"]]
        for row in select(rows, model=model, server=server, cell=cell)
        if row["round"] in floors
    ]


def middle(numbers: list[float]) -> float | None:
    """Return the median; None of nothing."""
    return median(numbers) if numbers else None
