"""Real pictures for a proof: a folder of picture files, or of CIFAR-10's binary files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.runtime import unoptimised_session
from export.samples import input_specs
from flatfold.contract.errors import FlatfoldError
from flatfold.contract.pictures import PictureError, load_picture
from training.data import SIDE, find_cifar10, load_cifar10

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIMIT = 256  # pictures read from one folder
DYNAMIC_SIDE = 224  # height and width where the model leaves them open
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


def check_pictures(folder: str | Path, model: str | Path) -> NDArray[np.uint8]:
    """Read up to `LIMIT` pictures at the size that `model` wants.

    Returns:
        uint8 (n, height, width, 3), n >= 1.

    Raises:
        FlatfoldError: the folder holds no pictures, one cannot be read, or the model takes none.
    """
    height, width = _size(model)
    folder = Path(folder)
    files = sorted(path for path in folder.glob("**/*") if path.suffix.lower() in SUFFIXES)[:LIMIT]
    if not files:
        return _cifar10(folder, height, width)
    return np.stack([_read(path, height, width) for path in files])


def _read(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    try:
        return load_picture(path.read_bytes(), height, width)
    except (OSError, PictureError) as error:
        raise FlatfoldError(f"cannot read the picture {path}: {error}") from error


def _cifar10(folder: Path, height: int, width: int) -> NDArray[np.uint8]:
    if find_cifar10(folder) is None:
        raise FlatfoldError(
            f"no pictures in {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}, "
            "or CIFAR-10's binary files"
        )
    if (height, width) != (SIDE, SIDE):
        raise FlatfoldError(
            f"CIFAR-10's pictures are {SIDE}x{SIDE}; this model takes {height}x{width}"
        )
    return load_cifar10(folder, train=False).images[:LIMIT]


def _size(model: str | Path) -> tuple[int, int]:
    """Return height and width of the model's one picture input, (n, h, w, 3) or (n, 3, h, w)."""
    specs = input_specs(unoptimised_session(model))
    shapes = [spec.shape for spec in specs if len(spec.shape) == 4]
    if len(specs) != 1 or not shapes:
        raise FlatfoldError(
            f"{model} takes no pictures: expected one input of 4 dimensions, "
            f"got {', '.join(f'{spec.name} {list(spec.shape)}' for spec in specs)}"
        )
    pixels = specs[0].kind == "tensor(uint8)"
    height, width = shapes[0][1:3] if pixels else shapes[0][2:4]
    return tuple(side if isinstance(side, int) else DYNAMIC_SIDE for side in (height, width))  # type: ignore[return-value]  # two in, two out
