"""Class folders of plain pictures, so that a test has pictures of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"blue sky": (0, 0, 255), "grass": (0, 255, 0), "rose": (255, 0, 0)}


def paint(folder: Path, counts: dict[str, int]) -> Path:
    """Write PNG pictures of one colour a class; the green channel tells their number."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            red, _, blue = COLOURS[name]
            Image.new("RGB", (40, 30), (red, number, blue)).save(folder / name / f"{number}.png")
    return folder
