"""CIFAR-10 in its official binary layout: where it lies, and from its files to arrays.

Layout: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version". A record is one label byte
and 3072 picture bytes: 1024 red, 1024 green, 1024 blue, each plane row by row.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatfold.contract.errors import FlatfoldError
from training.download import download_archive

if TYPE_CHECKING:
    from numpy.typing import NDArray

ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)
NAMES_FILE = "batches.meta.txt"
ENVIRONMENT = "FLATFOLD_DATA_DIR"

CLASSES = 10
SIDE = 32
CHANNELS = 3
RECORDS = 10_000  # a file
RECORD_BYTES = 1 + CHANNELS * SIDE * SIDE


class DataError(FlatfoldError):
    """Training or test pictures are missing, damaged or not what their folder promises."""


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures in memory.

    Attributes:
        images: uint8 (n, height, width, 3), RGB.
        labels: int64 (n,), each an index into `names`.
        names: the class names.
        files: where each was read from; () where they have no files of their own.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


def cache_folder() -> Path:
    """Return flatfold's cache folder, `$XDG_CACHE_HOME/flatfold` or `~/.cache/flatfold`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flatfold"


def find_cifar10(data_dir: str | Path | None = None) -> Path | None:
    """Return the folder of CIFAR-10's files, or None where there is none.

    A `data_dir` is the only place looked at; without one, `$FLATFOLD_DATA_DIR` comes first and
    the cache folder second. Each may be the folder itself or the folder that holds it.
    """
    if data_dir is not None:
        places = [Path(data_dir)]
    else:
        named = os.environ.get(ENVIRONMENT)
        places = [*([Path(named)] if named else []), cache_folder()]
    for place in places:
        for folder in (place, place / FOLDER):
            if any((folder / name).is_file() for name in (*TRAIN_FILES, *TEST_FILES)):
                return folder
    return None


def load_cifar10(data_dir: str | Path | None = None, *, train: bool) -> Pictures:
    """Read CIFAR-10's 50,000 training or 10,000 test pictures.

    Without a `data_dir`, data found nowhere is downloaded into the cache folder.

    Args:
        data_dir: where the files are; see `find_cifar10`.
        train: the training pictures, else the test pictures.

    Returns:
        The pictures in the files' order; images are uint8 (n, 32, 32, 3).

    Raises:
        DataError: not in `data_dir`, or a file is missing, truncated or not CIFAR-10.
        DownloadError: the download failed.
    """
    folder = find_cifar10(data_dir)
    if folder is None and data_dir is not None:
        raise DataError(
            f"no CIFAR-10 in {data_dir}: expected {TRAIN_FILES[0]} and its like, there or in its "
            f"folder {FOLDER}; without --data-dir it is downloaded to {cache_folder()}"
        )
    if folder is None:
        files = (NAMES_FILE, *TRAIN_FILES, *TEST_FILES)
        folder = download_archive(ARCHIVE_URL, ARCHIVE_MD5, files, cache_folder() / FOLDER)
    names = read_names(folder / NAMES_FILE)
    files = TRAIN_FILES if train else TEST_FILES
    images = np.empty((len(files) * RECORDS, SIDE, SIDE, CHANNELS), np.uint8)
    labels = np.empty(len(files) * RECORDS, np.int64)
    for index, name in enumerate(files):
        part = slice(index * RECORDS, (index + 1) * RECORDS)
        images[part], labels[part] = read_batch(folder / name)
    return Pictures(images, labels, names)


def read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read one file of 10,000 records.

    Returns:
        Images uint8 (10000, 32, 32, 3) and labels uint8 (10000,).

    Raises:
        DataError: missing, unreadable, of the wrong size, or a label above 9.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    expected = RECORDS * RECORD_BYTES
    if data.size != expected:
        state = "truncated" if data.size < expected else "not a CIFAR-10 file"
        raise DataError(
            f"{path} is {state}: {data.size} bytes, expected {expected}; "
            "delete it and unpack the archive again"
        )
    records = data.reshape(RECORDS, RECORD_BYTES)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        first = int(np.argmax(labels >= CLASSES))
        raise DataError(
            f"{path} is not a CIFAR-10 file: record {first} has label {labels[first]}, "
            f"expected 0 to {CLASSES - 1}; the layout is one label byte, then 3072 picture bytes"
        )
    planes = records[:, 1:].reshape(RECORDS, CHANNELS, SIDE, SIDE)
    return planes.transpose(0, 2, 3, 1), labels


def read_names(path: Path) -> tuple[str, ...]:
    """Read the ten class names, one a line.

    Raises:
        DataError: missing, unreadable, or not ten different names.
    """
    try:
        names = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the class names in {path}: {error}") from error
    if len(set(names)) != CLASSES or len(names) != CLASSES:
        raise DataError(
            f"{path} must hold {CLASSES} different class names, one a line; "
            f"got {len(names)}: {', '.join(names)[:200]}"
        )
    return names
