"""Augmentation of whole batches: flip and translation in one gather, cutout, and shrinking."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def augment(
    images: Tensor, flipped: Tensor, generator: torch.Generator, *, translate: int
) -> Tensor:
    """Mirror the pictures where `flipped` says so, and shift each by up to `translate` pixels.

    The border is filled by reflection. Flip, padding and crop are one gather: each output row and
    column is looked up where it came from.

    Args:
        images: uint8 (n, h, w, 3).
        flipped: bool (n,).
        generator: source of the shifts, on the CPU.
        translate: largest shift in pixels, each way.

    Returns:
        uint8 (n, h, w, 3).
    """
    count, height, width, _ = images.shape
    shifts = torch.randint(-translate, translate + 1, (2, count, 1), generator=generator)
    shifts = shifts.to(images.device)
    rows = _reflect(torch.arange(height, device=images.device) + shifts[0], height)
    columns = _reflect(torch.arange(width, device=images.device) + shifts[1], width)
    columns = torch.where(flipped[:, None], width - 1 - columns, columns)
    picture = torch.arange(count, device=images.device)[:, None, None]
    return images[picture, rows[:, :, None], columns[:, None, :]]


def _reflect(index: Tensor, size: int) -> Tensor:
    """Map positions outside 0..size-1 back inside by mirroring at the border pixel."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def cutout(images: Tensor, generator: torch.Generator, *, size: int) -> Tensor:
    """Set a random `size` x `size` square of each picture to zero (DeVries & Taylor 2017).

    Args:
        images: float (n, 3, h, w), normalised, so that zero is the mean colour.
        generator: source of the positions, on the CPU.
        size: side of the square in pixels; 0 leaves the pictures as they are.

    Returns:
        A tensor of the same shape and dtype.
    """
    if size == 0:
        return images
    count, _, height, width = images.shape
    top = torch.randint(0, height - size + 1, (count, 1), generator=generator).to(images.device)
    left = torch.randint(0, width - size + 1, (count, 1), generator=generator).to(images.device)
    rows = torch.arange(height, device=images.device) - top
    columns = torch.arange(width, device=images.device) - left
    inside_rows = (rows >= 0) & (rows < size)
    inside_columns = (columns >= 0) & (columns < size)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return images.masked_fill(inside, 0)


def shrink(images: Tensor, side: int) -> Tensor:
    """Return float (n, 3, h, w) pictures as (n, 3, side, side), averaging the pixels that merge.

    The memory is channels last, as it came.
    """
    if images.shape[2:] == (side, side):
        return images
    small = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    return small.contiguous(memory_format=torch.channels_last)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn uint8 (n, h, w, 3) into normalised float (n, 3, h, w), channels last in memory."""
    centre = torch.tensor(mean, device=images.device) * 255
    spread = torch.tensor(std, device=images.device) * 255
    return ((images.float() - centre) / spread).permute(0, 3, 1, 2)
