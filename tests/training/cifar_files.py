"""Fake CIFAR-10 in the official binary layout, so that no test needs the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from training.data import NAMES_FILE, RECORD_BYTES, RECORDS, TEST_FILES, TRAIN_FILES

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_cifar10(folder: Path, *, written: int = 100, seed: int = 0) -> Path:
    """Write all six files; `written` records of each are random, the sparse rest is zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for name in (*TRAIN_FILES, *TEST_FILES):
        records = generator.integers(0, 256, (written, RECORD_BYTES), np.uint8)
        records[:, 0] = generator.integers(0, 10, written)
        with (folder / name).open("wb") as file:
            file.write(records.tobytes())
            file.truncate(RECORDS * RECORD_BYTES)
    (folder / NAMES_FILE).write_text("\n".join(NAMES) + "\n\n")
    return folder
