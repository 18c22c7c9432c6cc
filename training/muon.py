"""Muon: momentum whose update for each filter bank is made orthogonal (Jordan et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

# The quintic iteration's coefficients, chosen by its author for the steepest slope at zero:
# singular values end between about 0.5 and 1.5, which serves as well as exactly one.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, steps: int) -> Tensor:
    """Push the singular values of `matrix` (rows, columns) towards one by Newton-Schulz steps.

    A step is x <- p(x x^T) x, with p(g) = a + b g + c g^2. All of them multiply from the left by
    polynomials of the first x x^T, which commute: so the long x is met twice, at the beginning and
    at the end, and the steps between compute with the short square x x^T alone. For filters
    (384, 3456) this is half the operations.
    """
    a, b, c = QUINTIC
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    tall = x.size(0) > x.size(1)
    if tall:
        x = x.T
    gram = x @ x.T
    product = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(steps):
        factor = torch.addmm(b * gram, gram, gram, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonal updates, on weights held at a fixed norm.

    Meant for convolution filters (out, in, k, k), taken as matrices (out, in * k * k). Before each
    step a weight is rescaled to the norm sqrt(out), as in airbench94_muon, so that the learning
    rate is a relative step. Everything is computed in the parameters' dtype.

    Args:
        params: the weights, or groups of them.
        lr: learning rate.
        momentum: share of the momentum that a step keeps.
        newton_schulz: steps by which an update is made orthogonal.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, momentum: float, newton_schulz: int
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._newton_schulz = newton_schulz

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure here
        """Apply one update to every parameter that has a gradient."""
        del closure  # the signature is torch's; no optimiser here re-evaluates the loss
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                momentum = state["momentum_buffer"]
                momentum.mul_(group["momentum"]).add_(parameter.grad)
                gradient = parameter.grad.add(momentum, alpha=group["momentum"])
                matrix = gradient.reshape(len(gradient), -1)
                update = orthogonalise(matrix, self._newton_schulz).view_as(parameter)
                parameter.mul_(len(parameter) ** 0.5 / parameter.norm())
                parameter.add_(update, alpha=-group["lr"])
