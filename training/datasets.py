"""The pictures that --data-dir and --image-size stand for: CIFAR-10 or your own class folders."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from flatfold.contract.errors import UsageError
from training.architecture import NetworkConfig
from training.data import FOLDER, SIDE, DataError, Pictures, find_cifar10, load_cifar10
from training.folders import class_parents, has_class_folders, load_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALLEST = NetworkConfig().smallest_side  # pixels; the presets have the default number of blocks


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Raise a DataError for a folder that cannot be read."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


@_reading()
def load_datasets(
    data_dir: str | Path | None = None, *, size: int | None = None
) -> tuple[Pictures, Pictures]:
    """Return training and test pictures.

    Args:
        data_dir: CIFAR-10's folder, or a folder of class folders; CIFAR-10 is looked for (and
            downloaded) as `load_cifar10` says when it is None.
        size: height and width of the pictures in pixels, 32 by default.

    Raises:
        UsageError: CIFAR-10 was asked for at another size than its own, or a size too small.
        DataError: nothing usable was found, or a folder cannot be read.
    """
    folder = _class_folders(data_dir, size)
    if folder is not None:
        return load_folders(folder, size or SIDE)
    return load_cifar10(data_dir, train=True), load_cifar10(data_dir, train=False)


@_reading()
def load_test(data_dir: str | Path | None = None, *, size: int | None = None) -> Pictures:
    """Return the test pictures alone; see `load_datasets`."""
    folder = _class_folders(data_dir, size)
    if folder is not None:
        return load_folders(folder, size or SIDE)[1]
    return load_cifar10(data_dir, train=False)


@_reading()
def check_apart(output: Path, data_dir: str | Path | None) -> None:
    """Raise a UsageError where the run's files would be among the pictures: its folder a class.

    What lies in a hidden folder is in nobody's way.
    """
    if data_dir is None or is_cifar10(data_dir):
        return
    for parent in class_parents(Path(data_dir)):
        place, among = output.resolve(), parent.resolve()
        if not place.is_relative_to(among):
            continue
        if not any(part.startswith(".") for part in place.relative_to(among).parts):
            raise UsageError(
                f"--output {output} is in {parent}, where each folder is a class of pictures, "
                "the run's own too when it is resumed; give an --output elsewhere"
            )


def is_cifar10(data_dir: str | Path | None) -> bool:
    """Say whether `data_dir` stands for CIFAR-10 and not for class folders."""
    return data_dir is None or find_cifar10(data_dir) is not None


def _class_folders(data_dir: str | Path | None, size: int | None) -> Path | None:
    """Return the folder of class folders, or None where the data is CIFAR-10."""
    if size is not None and size < SMALLEST:
        raise UsageError(f"--image-size {size} is too small; expected at least {SMALLEST} pixels")
    if data_dir is not None and not is_cifar10(data_dir):
        if not Path(data_dir).exists():
            raise DataError(f"{data_dir} does not exist; --data-dir names a folder of pictures")
        if not has_class_folders(Path(data_dir)):
            raise DataError(
                f"{data_dir} holds neither CIFAR-10 (the folder {FOLDER}) nor class folders of "
                "pictures; leave --data-dir out to have CIFAR-10 downloaded"
            )
        return Path(data_dir)
    if size not in (None, SIDE):
        raise UsageError(
            f"CIFAR-10's pictures are {SIDE}x{SIDE} pixels, not {size}x{size}; another size needs "
            "--data-dir with class folders of pictures"
        )
    return None
