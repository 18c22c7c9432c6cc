"""A network's first weights: identity filters, random ones, and a first layer that whitens."""

from __future__ import annotations

import operator
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.architecture import WHITEN_KERNEL
from training.augment import normalise

if TYPE_CHECKING:
    from torch import Tensor

    from training.network import FlatNet

# Patches whose products are summed at once, in 0.5 GB: those of 5000 pictures of CIFAR-10's size.
PATCHES_AT_ONCE = 5000 * 31 * 31


def initialise(network: FlatNet, generator: torch.Generator, *, dirac: bool = True) -> None:
    """Set the weights: identity (dirac) filters first, the rest as PyTorch draws them.

    Dirac initialisation is from airbench (Jordan 2024, arXiv:2404.00498): each layer first passes
    its input on. 1x1 filters go without, their layer's 3x3 ones have it. The random rest is drawn
    from `generator`, on the CPU, so that a seed repeats.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.uniform_(-1, 1, generator=generator).mul_(fan_in**-0.5)
                if module.bias is not None:
                    module.bias.zero_()
        if dirac and isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            nn.init.dirac_(module.weight.data[: module.in_channels])


def whiten(
    network: FlatNet,
    images: Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    eps: float = 5e-4,
) -> None:
    """Set the first convolution to whiten 2x2 patches: eigenvectors over root eigenvalues, +-.

    A picture and its mirror image count as equally likely, so that no symmetric filter's answers
    go with an antisymmetric one's. The symmetric ones come first, each before its negative.

    Args:
        network: changed in place.
        images: uint8 (n, h, w, 3); some thousands of training pictures.
        mean: per-channel mean that the network's input is normalised by, on the 0..1 scale.
        std: per-channel deviation, likewise.
        eps: added to the eigenvalues (on the normalised scale), as in airbench.
    """
    k = WHITEN_KERNEL
    places = (images.shape[1] - k + 1) * (images.shape[2] - k + 1)
    parts = torch.split(images, max(1, PATCHES_AT_ONCE // places))
    products = reduce(operator.add, (_patch_products(normalise(part, mean, std)) for part in parts))
    covariance = products / (len(images) * places)
    filters = torch.cat([_principal(covariance, basis, eps) for basis in _symmetries()])
    both = torch.stack((filters, -filters), 1).reshape(-1, 3, k, k)
    copies = -(-network.config.whiten_width // len(both))
    weight = both.repeat(copies, 1, 1, 1)[: network.config.whiten_width]
    network.whiten.weight.data.copy_(weight)


def _symmetries() -> tuple[Tensor, Tensor]:
    """Return bases of the symmetric and the antisymmetric patches, each float64 (12, 6)."""
    size = 3 * WHITEN_KERNEL**2
    mirror = torch.eye(size).view(size, 3, WHITEN_KERNEL, WHITEN_KERNEL).flip(3).view(size, size)
    _, vectors = torch.linalg.eigh(mirror.double())  # eigenvalues -1, then 1
    return vectors[:, size // 2 :], vectors[:, : size // 2]


def _principal(covariance: Tensor, basis: Tensor, eps: float) -> Tensor:
    """Return filters (6, 12) that whiten the patches in the space of `basis`, the strongest first.

    See `whiten` for `eps`.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(basis.T @ covariance @ basis)
    filters: Tensor = (basis @ eigenvectors / torch.sqrt(eigenvalues + eps)).T
    return filters.flip(0)


def _patch_products(images: Tensor) -> Tensor:
    """Return the sum over all patches of their pixels' products, float64 (12, 12).

    The images are float (n, 3, h, w).
    """
    k = WHITEN_KERNEL
    patches = images.unfold(2, k, 1).unfold(3, k, 1).permute(0, 2, 3, 1, 4, 5)
    flat = patches.reshape(-1, 3 * k * k).double()
    return flat.T @ flat
