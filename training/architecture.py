"""The shape of a network and what follows from it, worked out without PyTorch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flatfold.contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
