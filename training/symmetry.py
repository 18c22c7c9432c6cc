"""Mirror symmetry: each filter has its mirror image beside it, and the two learn as one.

A picture and its mirror image show the same thing. Instead of learning that from both, a network
can be made to know it (group equivariance: Cohen & Welling 2016, https://arxiv.org/abs/1602.07576):
channels come in pairs, of which one holds for the mirrored picture what the other holds for the
picture, mirrored. For that the two filters of a pair must be mirror images of each other, with the
channels that they read exchanged as well. The filters keep their number and shape, so that nothing
but learning knows of it: the symmetry is laid on the first weights, and then on every gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from training.architecture import WHITEN_KERNEL

if TYPE_CHECKING:
    from torch import Tensor

    from training.network import FlatNet

# Of one set of whitening filters and their negatives, half are their own mirror images.
WHITENING_SET = 2 * 3 * WHITEN_KERNEL**2
OWN_MIRRORS = WHITENING_SET // 2


def mirror_channels(width: int, whiten_width: int) -> Tensor:
    """Return for each of a layer's channels its partner, which is itself or a neighbour.

    The whitening layer decides about the first ones: a filter that is its own mirror image has its
    channel as its own partner, another one the filter's negative (`initialisation.whiten` puts them
    in that order). Later layers begin by passing those channels on, and so keep their partners.

    Returns:
        int64 (width,); applied twice it changes nothing.
    """
    index = torch.arange(width)
    own = (index < whiten_width) & (index % WHITENING_SET < OWN_MIRRORS)
    partner = torch.where(own, index, index ^ 1)
    return torch.where(partner < width, partner, index)  # the last one of an odd number


@dataclass(frozen=True)
class _Tied:
    """A parameter and the partners of the channels that it writes (axis 0) and reads (axis 1)."""

    parameter: Tensor
    written: Tensor | None = None
    read: Tensor | None = None

    def mirrored(self, values: Tensor) -> Tensor:
        """Return what `values`, of the parameter's shape, are for the mirrored picture."""
        if self.written is not None:
            values = values[self.written]
        if self.read is not None:
            values = values[:, self.read]
        return values.flip(-1) if values.dim() == 4 else values


class MirrorSymmetry:
    """Keeps a network mirror symmetric while it learns.

    Args:
        network: where it is to stay, since partners are looked up on its device.
    """

    def __init__(self, network: FlatNet) -> None:
        config, device = network.config, network.whiten.weight.device

        def partners(width: int) -> Tensor:
            return mirror_channels(width, config.whiten_width).to(device)

        first = partners(config.whiten_width)
        self._tied = [_Tied(network.whiten.weight, first), _Tied(network.whiten_bias, first)]
        for filters in network.filters():
            written, read = map(partners, filters.shape[:2])
            self._tied.append(_Tied(filters, written, read))
        for vector in (*network.norm_biases(), *network.norm_scales()):
            self._tied.append(_Tied(vector, partners(len(vector))))
        self._tied.append(_Tied(network.head_weight, read=partners(config.widths[-1])))

    @torch.no_grad()
    def impose(self) -> None:
        """Set the second filter of each pair to the first one's mirror image."""
        for tied in self._tied:
            weights = tied.parameter
            mirrored = tied.mirrored(weights)
            both = (weights + mirrored) / 2  # what is its own partner
            if tied.written is not None:
                index = torch.arange(len(weights), device=weights.device)
                shape = (-1, *[1] * (weights.dim() - 1))
                first = (index < tied.written).view(shape)
                second = (index > tied.written).view(shape)
                both = torch.where(first, weights, torch.where(second, mirrored, both))
            weights.copy_(both)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Take from each gradient what would break the symmetry; those that are None stay."""
        for tied in self._tied:
            gradient = tied.parameter.grad
            if gradient is not None:
                gradient.add_(tied.mirrored(gradient)).mul_(0.5)
