"""The network: a fixed whitening convolution, then blocks of plain Conv-BN-ReLU that all fold.

Nothing in it survives export but convolutions with ReLU, max pools, additions and one matrix
product: every batch norm scales by 1/sigma > 0 (its gamma is fixed at one), so that even the one
behind a max pool folds into the convolution before the pool. Branches, where the network has them
while it learns, are one 3x3 convolution after export.
"""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatfold.contract.errors import UsageError
from training.augment import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WHITEN_KERNEL = 2
# Patches whose products are summed at once, in 0.5 GB: those of 5000 pictures of CIFAR-10's size.
PATCHES_AT_ONCE = 5000 * 31 * 31


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The shape of a network.

    Attributes:
        widths: channels of each block; multiples of 16 suit the CPU's vector units.
        depths: convolutions in each block: 2, or 3 with a skip connection over the last two.
        whiten_width: channels of the whitening convolution; the 24 that whitening gives are
            padded with copies when it is larger.
        classes: number of labels.
        image_size: height and width in pixels.
        logit_scale: factor of the logits while training; 1 in a finished checkpoint.
        bn_momentum: share of the newest batch in the running statistics.
        branches: learn each 3x3 convolution beside a 1x1 one and, where the channels allow, the
            identity; the exporter merges the three into one.
    """

    widths: tuple[int, ...] = (64, 256, 256)
    depths: tuple[int, ...] = (2, 2, 2)
    whiten_width: int = 24
    classes: int = 10
    image_size: int = 32
    logit_scale: float = 1.0
    bn_momentum: float = 0.4
    branches: bool = False

    def __post_init__(self) -> None:
        """Raise a UsageError where the pictures are too small for the number of blocks."""
        if self.image_size < self.smallest_side:
            raise UsageError(
                f"{self.image_size} pixels are too small for {len(self.widths)} blocks; "
                f"--image-size must be at least {self.smallest_side}"
            )

    @property
    def name(self) -> str:
        """The architecture's name as it is served, branches merged: flatnet-64x2-256x3-384x3."""
        blocks = (f"{width}x{depth}" for width, depth in zip(self.widths, self.depths, strict=True))
        return "flatnet-" + "-".join(blocks)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that the exported network spends on one picture.

        Biases, ReLU and pooling are not counted.
        """
        side = self.image_size - WHITEN_KERNEL + 1
        total = side**2 * self.whiten_width * 3 * WHITEN_KERNEL**2
        before = self.whiten_width
        for width, depth in zip(self.widths, self.depths, strict=True):
            total += side**2 * 9 * before * width
            side, before = side // 2, width
            total += side**2 * 9 * width**2 * (depth - 1)
        return total + before * self.classes

    @property
    def smallest_side(self) -> int:
        """Height and width in pixels of the smallest pictures that leave the last block a place."""
        side: int = 2 ** len(self.widths) + WHITEN_KERNEL - 1
        return side

    @property
    def last_side(self) -> int:
        """Height and width of the last block's output, in pixels."""
        side: int = (self.image_size - WHITEN_KERNEL + 1) // 2 ** len(self.widths)
        return side

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Read what `to_dict` wrote."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return cls(**fields)


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
    eigenvalues, eigenvectors = torch.linalg.eigh(products / (len(images) * places))
    filters = (eigenvectors / torch.sqrt(eigenvalues + eps)).T.reshape(-1, 3, k, k).flip(0)
    both = torch.cat((filters, -filters))
    copies = -(-network.config.whiten_width // len(both))
    weight = both.repeat(copies, 1, 1, 1)[: network.config.whiten_width]
    network.whiten.weight.data.copy_(weight)


def _patch_products(images: Tensor) -> Tensor:
    """Return the sum over all patches of their pixels' products, float64 (12, 12).

    The images are float (n, 3, h, w).
    """
    k = WHITEN_KERNEL
    patches = images.unfold(2, k, 1).unfold(3, k, 1).permute(0, 2, 3, 1, 4, 5)
    flat = patches.reshape(-1, 3 * k * k).double()
    return flat.T @ flat
