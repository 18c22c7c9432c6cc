"""Class folders of plain pictures, so that a test has pictures of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
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


def paint_noise(folder: Path, names: tuple[str, str, str], count: int) -> Path:
    """Write noisy 12x12 PNG pictures whose red, green or blue is a little brighter."""
    generator = np.random.default_rng(0)
    for channel, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 200, (12, 12, 3), np.uint8)
            pixels[..., channel] += generator.integers(0, 56, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder
