"""The parts of the pictures: what is learnt from, and what is held out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from training.data import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from training.data import Pictures


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

    def sample(self, most: int, seed: int) -> Tensor:
        """Return up to `most` pictures of all classes, uint8 (k, h, w, 3).

        The first ones, as CIFAR-10's come in random order; pictures that come class by class, as
        those of class folders do, are drawn by `seed`.
        """
        if len(self) <= most or bool((self.labels.diff() < 0).any()):
            return self.images[:most]
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.images[order[:most].to(self.images.device)]

    def digest(self) -> str:
        """Return 16 hexadecimal digits that tell these pictures and labels from others."""
        found = hashlib.blake2b(digest_size=8)
        for tensor in (self.images, self.labels):
            found.update(tensor.cpu().reshape(-1).numpy().data)
        return found.hexdigest()


def hold_out(pictures: Pictures, most: int, seed: int) -> tuple[Split, Split]:
    """Return training pictures and at most `most` others, drawn by `seed`.

    Each class keeps at least the picture of it that was drawn last, to be learnt from.

    Raises:
        DataError: no class has a picture to spare.
    """
    order = np.random.default_rng(seed).permutation(len(pictures))
    from_end = np.unique(pictures.labels[order][::-1], return_index=True)[1]
    held = np.sort(np.delete(order, len(order) - 1 - from_end)[:most])
    if not len(held):
        raise DataError(
            "every class has one picture to learn from and none can be held out for the "
            "temperature; give more pictures"
        )
    kept = np.setdiff1d(order, held)

    def part(chosen: np.ndarray) -> Split:
        return Split(
            torch.from_numpy(pictures.images[chosen]),
            torch.from_numpy(pictures.labels[chosen]),
            pictures.names,
        )

    return part(kept), part(held)
