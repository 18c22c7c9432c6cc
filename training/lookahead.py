"""Lookahead: slow weights that the fast ones are pulled back to (Zhang et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

EVERY = 5  # steps between two pulls


class Lookahead:
    """Keeps slow copies of a module's floating-point parameters and buffers.

    The strength grows with the cube of the progress, as in airbench: nothing at first, an average
    over about the last twenty steps near the end.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.slow = {name: value.clone() for name, value in self._fast().items()}

    def _fast(self) -> dict[str, Tensor]:
        state = self._module.state_dict()
        return {name: value for name, value in state.items() if value.is_floating_point()}

    @torch.no_grad()
    def pull(self, progress: float) -> None:
        """Move the slow copies towards the fast weights and set the fast weights to them.

        Args:
            progress: share of all steps done, 0..1.
        """
        keep = 0.95**5 * progress**3
        for name, fast in self._fast().items():
            fast.copy_(self.slow[name].lerp_(fast, 1 - keep))

    @torch.no_grad()
    def finish(self) -> None:
        """Set the module's weights to the slow copies."""
        for name, fast in self._fast().items():
            fast.copy_(self.slow[name])
