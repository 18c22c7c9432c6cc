"""Which parameter learns how: the optimisers and learning-rate schedule of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from training.muon import Muon

if TYPE_CHECKING:
    from training.network import FlatNet
    from training.recipe import Recipe


# How much faster airbench's biases learn than everything else; learnt gammas are of the rest.
BIAS_FACTOR = 64


def build_optimisers(network: FlatNet, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return the optimisers of `network`; the first group of the first is the whitening bias."""

    def group(params: list[torch.nn.Parameter], lr: float) -> dict[str, object]:
        # Torch multiplies the decay by the learning rate; dividing here decouples the two.
        return {"params": params, "lr": lr, "weight_decay": recipe.weight_decay / lr}

    scales = network.norm_scales()
    groups = [
        group([network.whiten_bias], recipe.bias_lr),
        group(network.norm_biases(), recipe.bias_lr),
        group([network.head_weight], recipe.head_lr),
    ]
    if scales:
        # No decay: over a run it would fade every branch away, useful or not.
        groups.append({"params": scales, "lr": recipe.bias_lr / BIAS_FACTOR, "weight_decay": 0.0})
    if recipe.filters == "sgd":
        groups.append(group(network.filters(), recipe.filter_lr))
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(groups, lr=0, momentum=recipe.momentum, nesterov=True)
    ]
    if recipe.filters == "muon":
        optimisers.append(
            Muon(
                network.filters(),
                lr=recipe.filter_lr,
                momentum=recipe.filter_momentum,
                newton_schulz=recipe.newton_schulz,
            )
        )
    for optimiser in optimisers:
        for entry in optimiser.param_groups:
            entry["initial_lr"] = entry["lr"]
    return optimisers


def set_learning_rates(
    optimisers: list[torch.optim.Optimizer], recipe: Recipe, step: int, steps_per_epoch: int
) -> None:
    """Set every group's learning rate for `step`: warm up linearly, then down to zero linearly."""
    total = recipe.epochs * steps_per_epoch
    warm = int(recipe.warmup * total)
    factor = 0.2 + 0.8 * step / warm if step < warm else (total - step) / (total - warm)
    whitening = max(0.0, 1 - step / max(1, recipe.whiten_bias_epochs * steps_per_epoch))
    for number, optimiser in enumerate(optimisers):
        for index, entry in enumerate(optimiser.param_groups):
            is_whitening = number == 0 and index == 0
            entry["lr"] = entry["initial_lr"] * (whitening if is_whitening else factor)


def set_whitening_bias(network: FlatNet, recipe: Recipe, epoch: int) -> None:
    """Freeze the whitening bias once its epochs are over, momentum and decay included."""
    network.whiten_bias.requires_grad_(epoch < recipe.whiten_bias_epochs)
    if epoch >= recipe.whiten_bias_epochs:
        network.whiten_bias.grad = None
