"""The network: a fixed whitening convolution, then blocks of plain Conv-BN-ReLU that all fold.

Nothing in it survives export but convolutions with ReLU, max pools, additions and one matrix
product: every batch norm scales by 1/sigma > 0 (its gamma is fixed at one), so that even the one
behind a max pool folds into the convolution before the pool.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from flatfold.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WHITEN_KERNEL = 2


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
    """

    widths: tuple[int, ...] = (64, 256, 256)
    depths: tuple[int, ...] = (2, 2, 2)
    whiten_width: int = 24
    classes: int = 10
    image_size: int = 32
    logit_scale: float = 1.0
    bn_momentum: float = 0.4

    @property
    def name(self) -> str:
        """The architecture's name, e.g. flatnet-64x2-256x3-384x3."""
        blocks = (f"{width}x{depth}" for width, depth in zip(self.widths, self.depths, strict=True))
        return "flatnet-" + "-".join(blocks)

    @property
    def last_side(self) -> int:
        """Height and width of the last block's output, in pixels.

        Raises:
            UsageError: the picture is too small for the number of blocks.
        """
        side: int = (self.image_size - WHITEN_KERNEL + 1) // 2 ** len(self.widths)
        if side < 1:
            smallest = 2 ** len(self.widths) + WHITEN_KERNEL - 1
            raise UsageError(
                f"{self.image_size} pixels are too small for {len(self.widths)} blocks; "
                f"--image-size must be at least {smallest}"
            )
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


class Block(nn.Module):
    """conv, max pool, BN, ReLU; conv, BN, ReLU; at depth 3 a third conv with a skip around two.

    Maps (batch, in, h, w) to (batch, out, h // 2, w // 2).
    """

    def __init__(self, channels_in: int, channels_out: int, depth: int, momentum: float) -> None:
        super().__init__()
        widths = [channels_in] + [channels_out] * depth
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(BatchNorm(channels_out, momentum) for _ in range(depth))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output; see the class for the shapes."""
        skip = x = torch.relu(self.norms[0](self.pool(self.convs[0](x))))
        for conv, norm in zip(self.convs[1:-1], self.norms[1:-1], strict=True):
            x = torch.relu(norm(conv(x)))
        x = self.norms[-1](self.convs[-1](x))
        return torch.relu(x if len(self.convs) == 2 else x + skip)


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
            Block(a, b, depth, config.bn_momentum)
            for (a, b), depth in zip(pairwise(widths), config.depths, strict=True)
        )
        self.pool = nn.MaxPool2d(config.last_side)
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
        """Return the weights of the blocks' convolutions, each (out, in, 3, 3)."""
        blocks = cast("Iterable[Block]", self.blocks)
        return [cast("nn.Parameter", conv.weight) for block in blocks for conv in block.convs]

    def norm_biases(self) -> list[nn.Parameter]:
        """Return the batch norms' shifts, each (channels,)."""
        blocks = cast("Iterable[Block]", self.blocks)
        return [cast("nn.Parameter", norm.bias) for block in blocks for norm in block.norms]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, classes) in the dtype of the computation."""
        x = torch.relu(self.whiten(x))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.pool(x).flatten(1))
        return logits if self.logit_scale == 1 else logits * self.logit_scale


def place(network: nn.Module, device: torch.device) -> None:
    """Move the network to `device`, filters stored channels last, as the fast kernels want them."""
    network.to(device)
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def initialise(network: FlatNet, generator: torch.Generator) -> None:
    """Set the weights: identity (dirac) filters first, the rest as PyTorch draws them.

    Dirac initialisation is from airbench (Jordan 2024, arXiv:2404.00498): each layer first passes
    its input on. The random rest is drawn from `generator`, on the CPU, so that a seed repeats.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            with torch.no_grad():
                module.weight.uniform_(-1, 1, generator=generator).mul_(fan_in**-0.5)
                if module.bias is not None:
                    module.bias.zero_()
        if isinstance(module, nn.Conv2d) and module is not network.whiten:
            nn.init.dirac_(module.weight.data[: module.in_channels])


def whiten(network: FlatNet, images: Tensor, eps: float = 5e-4) -> None:
    """Set the first convolution to whiten 2x2 patches: eigenvectors over root eigenvalues, +-.

    Args:
        network: changed in place.
        images: float (n, 3, h, w), normalised; some thousands of training pictures.
        eps: added to the eigenvalues (on the normalised scale), as in airbench.
    """
    k = WHITEN_KERNEL
    patches = images.unfold(2, k, 1).unfold(3, k, 1).permute(0, 2, 3, 1, 4, 5)
    flat = patches.reshape(-1, 3 * k * k).double()
    eigenvalues, eigenvectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    filters = (eigenvectors / torch.sqrt(eigenvalues + eps)).T.reshape(-1, 3, k, k).flip(0)
    both = torch.cat((filters, -filters))
    copies = -(-network.config.whiten_width // len(both))
    weight = both.repeat(copies, 1, 1, 1)[: network.config.whiten_width]
    network.whiten.weight.data.copy_(weight)
