"""A tiny trained-looking network and made-up pictures, for tests of what exporting does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from flatfold.contract.card import Card
from tests.training.cifar_files import NAMES
from training import checkpoint
from training.architecture import NetworkConfig
from training.data import Pictures
from training.initialisation import initialise
from training.network import FlatNet

if TYPE_CHECKING:
    from pathlib import Path

TINY = NetworkConfig(widths=(16, 16), depths=(2, 3), whiten_width=16, image_size=9)
CLASSES = 10
BATCH_NORMS = sum(TINY.depths)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)


def network(config: NetworkConfig = TINY) -> FlatNet:
    """Return a network with random weights and running statistics that differ from fresh ones."""
    generator = torch.Generator().manual_seed(0)
    made = FlatNet(config)
    initialise(made, generator)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            with torch.no_grad():
                layer.bias.normal_(0.2, 0.2, generator=generator)
                layer.running_mean.normal_(0, 0.3, generator=generator)
                layer.running_var.uniform_(0.3, 2, generator=generator)
    return made.eval()


def card(config: NetworkConfig = TINY) -> Card:
    side = config.image_size
    return Card(
        name="tiny", labels=NAMES, height=side, width=side, temperature=1.7, mean=MEAN, std=STD
    )


def write_checkpoint(path: Path, config: NetworkConfig = TINY) -> Path:
    checkpoint.save(path, network(config), card(config))
    return path


def noise(count: int, side: int = TINY.image_size, seed: int = 0) -> np.ndarray:
    """Return uint8 (count, side, side, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def labelled(images: np.ndarray, labels: np.ndarray) -> Pictures:
    return Pictures(images, labels.astype(np.int64), NAMES)
