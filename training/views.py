"""Test-time augmentation: one picture seen in six ways, their logits averaged.

The views and weights are those that the CIFAR-10 speed records are measured with ("multi-crop
evaluation" in airbench's paper, https://arxiv.org/abs/2404.00498): half the weight on the picture
and its mirror image, half on translations by a pixel, up-left and down-right, each mirrored too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SHIFT = 1  # pixels
SHIFTED_WEIGHT = 0.5


def weighted_views(images: NDArray[np.uint8]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield (weight, view) for each view of `images`, first the unchanged one; weights sum to 1.

    Images and views are uint8 (n, height, width, 3). What a translation uncovers is filled by
    reflection, so both sides must be at least 2 pixels.
    """
    height, width = images.shape[1:3]
    edge = (SHIFT, SHIFT)
    padded = np.pad(images, ((0, 0), edge, edge, (0, 0)), mode="reflect")
    shifted = [padded[:, at : at + height, at : at + width] for at in (0, 2 * SHIFT)]
    weights = (1 - SHIFTED_WEIGHT, SHIFTED_WEIGHT / 2, SHIFTED_WEIGHT / 2)
    for weight, view in zip(weights, (images, *shifted), strict=True):
        for mirrored in (view, view[:, :, ::-1]):
            yield weight / 2, np.ascontiguousarray(mirrored)
