"""The network: a fixed whitening convolution, then blocks of plain Conv-BN-ReLU that all fold.

Nothing in it survives export but convolutions with ReLU, max pools, additions and one matrix
product: every batch norm scales by 1/sigma > 0 (its gamma is fixed at one), so that even the one
behind a max pool folds into the convolution before the pool. Branches, where the network has them
while it learns, are one 3x3 convolution after export.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.architecture import WHITEN_KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.architecture import NetworkConfig


class BatchNorm(nn.BatchNorm2d):
    """Batch norm with gamma fixed at one: the next layer's weights carry the scale as well."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__(channels, momentum=momentum)
        self.weight.requires_grad = False


class Branches(nn.Module):
    """What is added to a normalised 3x3 convolution: a 1x1 one and the identity, normalised too.

    After RepVGG (Ding et al. 2021, https://arxiv.org/abs/2101.03697). The gammas here are learnt:
    they weigh the branches against the 3x3 convolution, whose own stays at one.
    """

    def __init__(self, channels_in: int, channels_out: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.norm = BatchNorm(channels_out, momentum)
        same = channels_in == channels_out
        self.identity = BatchNorm(channels_out, momentum) if same else None
        for norm in self.norms():
            norm.weight.requires_grad = True

    def norms(self) -> list[BatchNorm]:
        """Return the batch norms of the branches."""
        return [self.norm] if self.identity is None else [self.norm, self.identity]

    def forward(self, x: Tensor) -> Tensor:
        """Return the branches' sum: (batch, in, h, w) to (batch, out, h, w)."""
        y: Tensor = self.norm(self.conv(x))
        return y if self.identity is None else y + self.identity(x)


class Block(nn.Module):
    """conv, max pool, BN, ReLU; conv, BN, ReLU; at depth 3 a third conv with a skip around two.

    With branches, the pool comes behind their sum: only there is it one convolution's output.
    Maps (batch, in, h, w) to (batch, out, h // 2, w // 2).
    """

    def __init__(
        self, channels_in: int, channels_out: int, depth: int, momentum: float, *, branches: bool
    ) -> None:
        super().__init__()
        pairs = list(pairwise([channels_in] + [channels_out] * depth))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairs)
        self.norms = nn.ModuleList(BatchNorm(channels_out, momentum) for _ in range(depth))
        self.branches = nn.ModuleList(Branches(a, b, momentum) for a, b in pairs if branches)
        self.pool = nn.MaxPool2d(2)

    def _layer(self, index: int, x: Tensor) -> Tensor:
        """Return what one layer computes before its ReLU; the first one halves the sides."""
        y: Tensor = self.convs[index](x)
        if not self.branches:
            return cast("Tensor", self.norms[index](self.pool(y) if index == 0 else y))
        y = self.norms[index](y) + self.branches[index](x)
        return cast("Tensor", self.pool(y)) if index == 0 else y

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; see the class for the shapes."""
        skip = x = torch.relu(self._layer(0, x))
        last = len(self.convs) - 1
        for index in range(1, last):
            x = torch.relu(self._layer(index, x))
        x = self._layer(last, x)
        return torch.relu(x if last == 1 else x + skip)


class FlatNet(nn.Module):
    """A classifier of `config`'s shape: float (batch, 3, size, size), normalised RGB, to logits."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        # No padding, so that the input's normalisation folds into this convolution exactly.
        self.whiten = nn.Conv2d(3, config.whiten_width, WHITEN_KERNEL)
        self.whiten.weight.requires_grad = False
        widths = (config.whiten_width, *config.widths)
        self.blocks = nn.ModuleList(
            Block(a, b, depth, config.bn_momentum, branches=config.branches)
            for (a, b), depth in zip(pairwise(widths), config.depths, strict=True)
        )
        self.head = nn.Linear(config.widths[-1], config.classes, bias=False)
        self.logit_scale = config.logit_scale

    @property
    def whiten_bias(self) -> nn.Parameter:
        """The whitening convolution's bias, (whiten_width,)."""
        return cast("nn.Parameter", self.whiten.bias)

    @property
    def head_weight(self) -> nn.Parameter:
        """The last layer's weight, (classes, width)."""
        return cast("nn.Parameter", self.head.weight)

    def filters(self) -> list[nn.Parameter]:
        """Return the weights of the blocks' convolutions, each (out, in, k, k), k 3 or 1."""
        convs = [conv for block in self._blocks() for conv in block.convs]
        convs += [branch.conv for branch in self._branches()]
        return [cast("nn.Parameter", conv.weight) for conv in convs]

    def norm_biases(self) -> list[nn.Parameter]:
        """Return the batch norms' shifts, each (channels,)."""
        norms = [norm for block in self._blocks() for norm in block.norms]
        norms += [norm for branch in self._branches() for norm in branch.norms()]
        return [cast("nn.Parameter", norm.bias) for norm in norms]

    def norm_scales(self) -> list[nn.Parameter]:
        """Return the gammas that are learnt, those of the branches, each (channels,)."""
        return [norm.weight for branch in self._branches() for norm in branch.norms()]

    def _blocks(self) -> Iterable[Block]:
        return cast("Iterable[Block]", self.blocks)

    def _branches(self) -> Iterable[Branches]:
        return (cast("Branches", branch) for block in self._blocks() for branch in block.branches)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, classes) in the dtype of the computation."""
        x = torch.relu(self.whiten(x))
        for block in self.blocks:
            x = block(x)
        # The last pool covers whatever is left, since a recipe may begin with smaller pictures.
        logits: Tensor = self.head(functional.max_pool2d(x, x.shape[2:]).flatten(1))
        return logits if self.logit_scale == 1 else logits * self.logit_scale


def place(network: nn.Module, device: torch.device) -> None:
    """Move the network to `device`, filters stored channels last, as the fast kernels want them."""
    network.to(device)
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
