"""Your own pictures: one folder a class, its name the class's name.

pictures/cat/*.jpg  pictures/dog/*.png      a share of each class is held out for the test
pictures/train/cat/*  pictures/test/cat/*   or the split is given
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flatfold.contract.errors import FlatfoldError
from flatfold.contract.pictures import load_picture
from training.data import DataError, Pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_OUT = 0.2
# Not the training seed: each run and each evaluation must hold out the same pictures.
SPLIT_SEED = 0
SHOWN = 5  # faults that one message names
# Folders of this name hold a part of the data, so that they are no classes.
PARTS = {"train", "test", "val", "valid", "validation"}


def class_parents(folder: Path) -> tuple[Path, ...]:
    """Return whose folders are the classes: `train` and `test` in `folder`, or `folder` itself."""
    parts = (folder / "train", folder / "test")
    return parts if all(part.is_dir() for part in parts) else (folder,)


def has_class_folders(folder: Path) -> bool:
    """Say whether `folder` holds any folder that could be a class."""
    return folder.is_dir() and bool(_folders(folder))


def load_folders(folder: Path, size: int) -> tuple[Pictures, Pictures]:
    """Read class folders of pictures.

    Args:
        folder: holds the class folders, or `train` and `test` folders that each hold them.
        size: height and width in pixels that every picture is cropped and resized to.

    Returns:
        Training and test pictures; images are uint8 (n, size, size, 3), names sorted.

    Raises:
        DataError: fewer than two classes, a class without pictures, test classes that are not the
            training ones, a split that is not `train` and `test`, pictures that cannot be read,
            or more of them than memory holds; the message names the paths.
    """
    parts = class_parents(folder)
    if len(parts) == 2:
        names = _class_names(parts[0])
        if (others := _class_names(parts[1])) != names:
            odd = ", ".join(sorted(set(names) ^ set(others)))
            raise DataError(f"{parts[0]} and {parts[1]} must hold the same classes; odd: {odd}")
        train, test = (_load(part, names, size) for part in parts)
        return train, test
    _check_split(folder)
    pictures = _load(folder, _class_names(folder), size)
    return _hold_out_test(pictures, folder)


def _hold_out_test(pictures: Pictures, folder: Path) -> tuple[Pictures, Pictures]:
    """Hold out a fifth of each class, at least one picture, always the same ones.

    Raises:
        DataError: a class has a single picture, so that nothing would be left to train on.
    """
    generator = np.random.default_rng(SPLIT_SEED)
    held_out = np.zeros(len(pictures), bool)
    for label, name in enumerate(pictures.names):
        members = np.flatnonzero(pictures.labels == label)
        if len(members) == 1:
            raise DataError(
                f"{folder / name} holds 1 picture; a class needs at least 2, "
                "one to train on and one to test"
            )
        count = max(1, round(HELD_OUT * len(members)))
        held_out[generator.permutation(members)[:count]] = True
    return _take(pictures, ~held_out), _take(pictures, held_out)


def _take(pictures: Pictures, chosen: NDArray[np.bool_]) -> Pictures:
    files = tuple(compress(pictures.files, chosen))
    return Pictures(pictures.images[chosen], pictures.labels[chosen], pictures.names, files)


def _folders(folder: Path) -> list[Path]:
    inside = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(path for path in inside if path.is_dir())


def _check_split(folder: Path) -> None:
    """Refuse what looks like a given split, whose folders would be taken for classes."""
    found = _folders(folder)
    if all(part.name.lower() in PARTS for part in found) and any(map(_folders, found)):
        raise DataError(
            f"{folder} looks like a split into training and test pictures, which needs both "
            f"'train' and 'test', in lower case, each with the class folders; "
            f"found {', '.join(repr(part.name) for part in found)}"
        )


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(path.name for path in _folders(folder))
    if len(names) < 2:
        found = f"only {names[0]!r}" if names else "none"
        raise DataError(f"{folder} must hold at least two class folders of pictures; found {found}")
    return names


def _load(folder: Path, names: tuple[str, ...], size: int) -> Pictures:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = _files(folder / name)
        if not files:
            raise DataError(f"{folder / name} is empty: a class folder must hold pictures")
        paths += files
        labels += [label] * len(files)
    images = _blank(len(paths), size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the interpreter lock
        faults = [
            fault
            for fault in pool.map(partial(_read_into, images), range(len(paths)), paths)
            if fault
        ]
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            f"{len(faults)} of {len(paths)} files cannot be read as pictures; "
            f"repair or remove them: {'; '.join(faults[:SHOWN])}{more}"
        )
    return Pictures(images, np.array(labels, np.int64), names, tuple(paths))


def _blank(count: int, size: int) -> NDArray[np.uint8]:
    """Return room for `count` pictures, uint8 (count, size, size, 3)."""
    try:
        return np.empty((count, size, size, 3), np.uint8)
    except (MemoryError, ValueError) as error:  # a ValueError: more than addresses can count
        raise DataError(
            f"{count} pictures of {size}x{size} pixels need {3e-9 * count * size**2:,.1f} GB of "
            "memory, which cannot be had; use fewer pictures or a smaller size"
        ) from error


def _files(folder: Path) -> list[Path]:
    """Return every file below a class folder but what is hidden or in a hidden folder.

    A link to nowhere is returned as well, so that it is told like any file that is no picture.
    Links to folders are not followed. Hidden are .DS_Store, .ipynb_checkpoints/1.png.

    Raises:
        OSError: a folder cannot be read.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.is_file() or not path.exists())


def _refuse(error: OSError) -> None:
    raise error


def _read_into(images: NDArray[np.uint8], index: int, path: Path) -> str:
    """Fill row `index` and return "", or return why the picture cannot be read."""
    height, width = images.shape[1:3]
    try:
        images[index] = load_picture(path.read_bytes(), height, width)
    except (FlatfoldError, OSError) as error:
        return f"{path}: {error}"
    return ""
