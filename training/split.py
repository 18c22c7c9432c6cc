"""A part of the pictures: what is learnt from, or what is held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """Pictures and labels as tensors: uint8 (n, h, w, 3) and int64 (n,).

    `names` are the classes' names, which a resumed run must share; () where nobody knows them.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Return 16 hexadecimal digits that tell these pictures and labels from others."""
        found = hashlib.blake2b(digest_size=8)
        for tensor in (self.images, self.labels):
            found.update(tensor.cpu().reshape(-1).numpy().data)
        return found.hexdigest()
