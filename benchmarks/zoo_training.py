"""Train a network of the zoo for a moment: out of the chaos that every network starts in.

In an untrained network with batch norms each layer magnifies small differences (Yang et al. 2019,
"A Mean Field Theory of Batch Normalization"), rounding among them: its outputs are known to fewer
digits than those of any network that somebody would fold. A few dozen steps are enough to end that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from training.network import place

if TYPE_CHECKING:
    from training.data import Pictures

BATCH = 64
LEARNING_RATE = 0.1
MOMENTUM = 0.9
LARGEST_GRADIENT = 5.0  # norm: the gammas of both signs make the first steps steep


def as_inputs(images: object) -> torch.Tensor:
    """Return uint8 (n, h, w, 3) as float32 (n, 3, h, w) from -2 to 2."""
    return ((torch.as_tensor(images).permute(0, 3, 1, 2) / 255 - 0.5) * 4).contiguous()


def train(network: nn.Module, pictures: Pictures, steps: int) -> None:
    """Take `steps` steps of SGD, the rate falling to zero, and gather statistics on the way.

    The forward pass computes in bfloat16: it is the rounding of the trained weights' float32 run
    that is asked for, not that of training.
    """
    generator = torch.Generator().manual_seed(0)
    place(network, torch.device("cpu"))
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    optimiser = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True
    )
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        picked = torch.randint(len(pictures.images), (BATCH,), generator=generator).numpy()
        inputs = as_inputs(pictures.images[picked]).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(inputs)
        labels = torch.from_numpy(pictures.labels[picked])
        optimiser.zero_grad()
        torch.autograd.backward(functional.cross_entropy(logits.float(), labels))
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimiser.step()
        decay.step()
    for weight in network.parameters():  # back from channels last
        weight.data = weight.data.contiguous()
