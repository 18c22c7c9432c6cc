"""A tiny recipe and made-up pictures: training in a second, for tests of the loop around it."""

from dataclasses import replace

import numpy as np
import torch

from training.architecture import NetworkConfig
from training.data import Pictures
from training.recipe import PRESETS
from training.split import Split

TINY = NetworkConfig(widths=(16, 16), depths=(2, 3), image_size=12, logit_scale=1 / 16)


def tiny_recipe(base="best", **changes):
    network = replace(TINY, logit_scale=PRESETS[base].network.logit_scale)
    return replace(
        PRESETS[base], **{"network": network, "epochs": 3, "batch_size": 32, "cutout": 4, **changes}
    )


def shades(count, seed=0, size=12):
    """Noisy grey pictures of four classes that differ in brightness: learnt in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 60, (count, size, size, 3), generator=generator)
    images += labels[:, None, None, None] * 60
    return Split(images.to(torch.uint8), labels)


def numbered_pictures(count, classes=10, size=32):
    """Black pictures whose first byte is their number; the classes come in turn."""
    images = np.zeros((count, size, size, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(count) % 256
    names = tuple(f"class {number}" for number in range(classes))
    return Pictures(images, np.arange(count) % classes, names)


class Recorder:
    def __init__(self):
        self.batches, self.records = [], []

    def batch(self, epoch, step, loss, accuracy):
        self.batches.append((epoch, step, loss, accuracy))

    def epoch(self, record):
        self.records.append(record)
