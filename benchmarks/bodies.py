"""The request bodies: pictures of random content, made here, the same for every server."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 16  # different bodies of each kind, sent in turn: no server may answer from a cache
KINDS = ("png", "jpeg", "tensor")
SIDE = 32
TENSOR_HEADER = {
    "inputs": [
        {
            "name": "images",
            "shape": [1, SIDE, SIDE, 3],
            "datatype": "UINT8",
            "parameters": {"binary_data_size": SIDE * SIDE * 3},
        }
    ],
    "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
}
TENSOR_JSON = json.dumps(TENSOR_HEADER, separators=(",", ":")).encode()


def photo_like(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Return noise with a photograph's spectrum: each octave a little weaker than the one below.

    The exponent makes a 640x480 JPEG of quality 85 as large as photographs are: 1.7 bits a pixel;
    seven of scikit-image's have 1.0 to 2.2, 1.65 in the middle.
    """
    total = np.zeros((height, width, 3))
    side = 4
    while side <= max(height, width):
        coarse = rng.integers(0, 256, (side * height // width + 1, side, 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer, dtype=np.float64) / side**0.3
        side *= 2
    total -= total.min()
    return Image.fromarray((total * (255 / total.max())).astype(np.uint8))


def body(kind: str, seed: int) -> bytes:
    """Return one body: a 32x32 PNG, a 640x480 JPEG, or a tensor in the protocol's binary form."""
    rng = np.random.default_rng(seed)
    if kind == "tensor":
        return TENSOR_JSON + rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8).tobytes()
    file = io.BytesIO()
    if kind == "png":
        photo_like(rng, SIDE, SIDE).save(file, "PNG")
    elif kind == "jpeg":
        photo_like(rng, 480, 640).save(file, "JPEG", quality=85)
    else:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    return file.getvalue()


def write_bodies(folder: Path) -> dict[str, list[Path]]:
    """Write `COUNT` bodies of each kind into `folder`; return their paths by kind."""
    paths: dict[str, list[Path]] = {}
    for kind in KINDS:
        for seed in range(COUNT):
            path = folder / f"{kind}-{seed}.bin"
            path.write_bytes(body(kind, seed))
            paths.setdefault(kind, []).append(path)
    return paths
