"""Every hyper-parameter of training, and the presets that fit a budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flatfold.contract.errors import UsageError
from training.architecture import NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Mapping


# 24 of CIFAR-10's 32 pixels: half the operations, and the last block still sees 2x2 places.
SMALL_SCALE = 0.75


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained.

    Learning rates are for the loss summed over the batch. `weight_decay` is decoupled: the share
    by which one step at full learning rate shrinks a weight.

    Attributes:
        preset: the name it goes by.
        network: the network's shape.
        epochs: passes over the training pictures.
        batch_size: pictures drawn a step.
        hardest: share of each batch that the network learns from, the hardest by the judgement
            of a small proxy network; 1 turns the selection off.
        filters: "muon" or "sgd", the optimiser of the convolutions.
        filter_lr: learning rate of the convolutions.
        filter_momentum: momentum of the convolutions.
        newton_schulz: steps by which Muon makes an update orthogonal.
        head_lr: learning rate of the last layer.
        bias_lr: learning rate of the batch norms' shifts and the whitening bias.
        momentum: momentum of everything but Muon's filters.
        weight_decay: decoupled weight decay a step.
        warmup: share of the steps in which the learning rate climbs from a fifth to the whole.
        whiten_bias_epochs: epochs after which the whitening layer's bias is frozen.
        label_smoothing: weight of the uniform distribution in the targets.
        translate: largest random shift in pixels.
        cutout: side of the square that is blanked, in pixels; 0 for none.
        lookahead: average the weights with a slow copy every five steps.
        progressive: share of the epochs, the first ones, that learn from smaller pictures
            (progressive resizing), as `side` says.
        flip: "alternating", each picture mirrored in every other epoch, or "random".
        mirror: filters come in pairs of mirror images that learn as one (`symmetry`).
        dirac: start the 3x3 filters with the identity.
        whitening: the first convolution whitens; else its filters are random. Neither learns.
        holdout: training pictures kept aside for the temperature and the learning curve.
    """

    preset: str
    network: NetworkConfig = field(default_factory=NetworkConfig)
    epochs: int
    batch_size: int
    hardest: float = 1.0
    filters: str = "muon"
    filter_lr: float
    filter_momentum: float
    newton_schulz: int = 3
    head_lr: float
    bias_lr: float
    momentum: float = 0.85
    weight_decay: float
    warmup: float = 0.0
    whiten_bias_epochs: int = 3
    label_smoothing: float = 0.2
    translate: int = 2
    cutout: int = 0
    lookahead: bool = False
    progressive: float = 0.0
    flip: str = "alternating"
    mirror: bool = False
    dirac: bool = True
    whitening: bool = True
    holdout: int = 5000

    def learnt_from(self, count: int) -> int:
        """Return how many of `count` pictures the network learns from, one at least."""
        return max(1, round(self.hardest * count))

    def side(self, epoch: int) -> int:
        """Return the height and width, in pixels, at which `epoch` (from 0) sees the pictures.

        The last epoch sees whole ones, however few there are: the finished network does.
        """
        whole = self.network.image_size
        if epoch >= min(round(self.progressive * self.epochs), self.epochs - 1):
            return whole
        return max(self.network.smallest_side, round(SMALL_SCALE * whole))

    def operations(self, pictures: int) -> float:
        """Return the floating-point operations of training on `pictures` training pictures.

        6 a multiply-add: two each for the forward pass and both gradients of the backward pass.
        The proxy network that chooses the hardest pictures is not counted.
        """
        sides = [self.side(epoch) for epoch in range(self.epochs)]
        each = sum(replace(self.network, image_size=side).multiply_adds for side in sides)
        steps = pictures // self.batch_size
        return 6.0 * each * steps * self.learnt_from(self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` wrote, today or before a field was added: it has its default."""
        return cls(**{**data, "network": NetworkConfig.from_dict(data["network"])})


# airbench94_muon's constants, but for what was better on held-out pictures (docs/training.md): half
# its batch, with more momentum, about 1 / sqrt(2) of the filters' rate and half the decay a step;
# smaller pictures to begin with; five Newton-Schulz steps in place of three. Ours has ReLU and
# bfloat16.
_MUON = Recipe(
    preset="fast",
    network=NetworkConfig(widths=(64, 256, 256), depths=(2, 2, 2), logit_scale=1 / 256),
    epochs=6,
    batch_size=1000,
    filter_lr=0.17,
    filter_momentum=0.75,
    newton_schulz=5,
    head_lr=0.67,
    bias_lr=0.053,
    weight_decay=2e-3,
    progressive=0.55,
    mirror=True,
)

# airbench96's: lr 9 and decay 0.012 per 1024 pictures, divided by the 1 + 1 / (1 - momentum) by
# which Nesterov momentum multiplies a steady gradient; biases learn 64 times as fast.
_NESTEROV = 1024 * (1 + 1 / (1 - 0.85))
_SGD_LR = 9.0 / _NESTEROV

_BEST = Recipe(
    preset="best",
    network=NetworkConfig(
        widths=(96, 384, 384), depths=(3, 3, 3), logit_scale=1 / 9, bn_momentum=0.1
    ),
    epochs=72,
    batch_size=1024,
    hardest=0.5,
    filters="sgd",
    filter_lr=_SGD_LR,
    filter_momentum=0.85,
    head_lr=_SGD_LR,
    bias_lr=64 * _SGD_LR,
    weight_decay=0.012 * 1024 / _NESTEROV,
    warmup=0.1,
    translate=4,
    cutout=12,
    lookahead=True,
)

# A third convolution with a skip in each block: in the same seconds more right answers on held-out
# pictures, with augmentation, than 22 epochs of the network of `fast` (docs/training.md).
_STANDARD = replace(
    _MUON,
    preset="standard",
    network=NetworkConfig(widths=(64, 256, 384), depths=(3, 3, 3), logit_scale=1 / 384),
    epochs=12,
    progressive=0.65,
    mirror=False,
)

PRESETS: dict[str, Recipe] = {"fast": _MUON, "standard": _STANDARD, "best": _BEST}


def preset(name: str) -> Recipe:
    """Return the preset called `name`.

    Raises:
        UsageError: there is no such preset; the message lists them.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
