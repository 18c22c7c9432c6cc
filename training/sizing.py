"""A preset's recipe sized to the pictures: classes, sides, held-out share, batch, augmentation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from training.data import SIDE

if TYPE_CHECKING:
    from training.data import Pictures
    from training.recipe import Recipe

HELD_OUT_SHARE = 10  # at most a tenth of the training pictures is held out for the temperature
STEPS_PER_EPOCH = 20  # at least, so that a few hundred pictures of your own still teach something
SMALLEST_BATCH = 16  # fewer pictures make batch statistics too noisy
# Pictures of CIFAR-10's size that have as many pixels as the largest batch of large ones: a step's
# memory goes with the pixels, and these take some 5 GB in bfloat16.
LARGEST_BATCH = 4000


def fit_recipe(recipe: Recipe, pictures: Pictures, *, batch_size: int | None = None) -> Recipe:
    """Return `recipe` with the classes and size of these training pictures.

    Augmentation grows with the size. For few pictures the held-out share and the batch get smaller,
    and the batch for large ones (unless `batch_size` was asked for). For CIFAR-10 nothing changes.
    """
    holdout = min(recipe.holdout, max(1, len(pictures) // HELD_OUT_SHARE))
    kept = len(pictures) - holdout
    size = pictures.images.shape[1]
    fitting = LARGEST_BATCH * SIDE**2 // size**2
    most = min(kept, max(SMALLEST_BATCH, min(kept // STEPS_PER_EPOCH, fitting)))
    return replace(
        recipe,
        network=replace(recipe.network, classes=len(pictures.names), image_size=size),
        holdout=holdout,
        batch_size=batch_size or min(recipe.batch_size, most),
        translate=round(recipe.translate * size / SIDE),
        cutout=round(recipe.cutout * size / SIDE),
    )
