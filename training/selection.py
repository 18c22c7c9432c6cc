"""Learning from the hardest pictures of each batch, chosen by a small proxy network.

From airbench96_faster (Jordan 2024): a network of a few per cent of the cost sees every batch and
picks the pictures with the largest loss; the big one spends its time on those alone. Here the
proxy is trained in the same loop, so that a run can be resumed at any epoch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from training.initialisation import initialise
from training.network import FlatNet, place
from training.optimisers import build_optimisers, set_learning_rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from training.architecture import NetworkConfig
    from training.recipe import Recipe

LEARN_EVERY = 4  # the proxy needs few updates; on the other batches it only looks
_WIDTHS, _DEPTHS = (32, 64, 64), (2, 2, 2)


def proxy_shape(recipe: Recipe) -> NetworkConfig:
    """Return the shape of the small network beside the recipe's own."""
    return replace(recipe.network, widths=_WIDTHS, depths=_DEPTHS, branches=False)


class Proxy:
    """The small network and its optimiser."""

    def __init__(
        self,
        recipe: Recipe,
        whitening: Callable[[FlatNet], None],
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        shape = proxy_shape(recipe)
        self.recipe = replace(recipe, network=shape, whiten_bias_epochs=0)
        self.network = FlatNet(shape)
        initialise(self.network, generator, dirac=recipe.dirac)
        place(self.network, device)
        if recipe.whitening:
            whitening(self.network)
        self.network.whiten_bias.requires_grad_(False)
        self.optimisers = build_optimisers(self.network, self.recipe)

    def hardest(
        self,
        images: Tensor,
        labels: Tensor,
        step: int,
        steps_per_epoch: int,
        *,
        autocast: torch.autocast,
    ) -> Tensor:
        """Return the indices (k,) of the k hardest pictures, and learn from them now and then.

        Args:
            images: float (n, 3, h, w), normalised and augmented.
            labels: int64 (n,).
            step: number of this step in the whole run.
            steps_per_epoch: steps in an epoch.
            autocast: the precision to compute in.
        """
        learn = step % LEARN_EVERY == 0
        self.network.train()
        with torch.set_grad_enabled(learn), autocast:
            logits = self.network(images)
        losses = functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.recipe.label_smoothing, reduction="none"
        )
        chosen = losses.detach().argsort(descending=True)[: self.recipe.learnt_from(len(labels))]
        if learn:
            torch.autograd.backward(losses[chosen].sum())
            set_learning_rates(self.optimisers, self.recipe, step, steps_per_epoch)
            for optimiser in self.optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        return chosen.sort().values
