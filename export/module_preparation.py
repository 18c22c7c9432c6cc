"""Make a copy of a PyTorch module ready to fold, and say what about it is worth a warning."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, remove_weight_norm

from export.module_in_place import ModuleFoldError

if TYPE_CHECKING:
    from typing import Any


class FoldWarning(UserWarning):
    """The module can be folded, but it may not be what its owner believes."""


def prepare(module: nn.Module) -> nn.Module:
    """Return a copy in eval mode, its parametrizations and weight norms resolved to plain weights.

    Raises:
        ModuleFoldError: a parameter has no value yet.

    Warns:
        FoldWarning: train mode, statistics that no batch ever updated, or hooks.
    """
    _require_values(module)
    if module.training:
        warnings.warn(
            "the module is in train mode; it is folded as in eval mode", FoldWarning, stacklevel=4
        )
    for name, part in module.named_modules():
        _warn_of(name or type(part).__name__, part)
    duplicate = copy.deepcopy(module, _computed_tensors(module)).eval()
    for part in duplicate.modules():
        _resolve(part)
    return duplicate


def _require_values(module: nn.Module) -> None:
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value):
            raise ModuleFoldError(
                f"{name} has no value yet, its layer is a lazy one: run the module on an input "
                "once, then fold it"
            )


def _warn_of(name: str, part: nn.Module) -> None:
    batches = getattr(part, "num_batches_tracked", None)
    if isinstance(batches, torch.Tensor) and int(batches) == 0:
        warnings.warn(
            f"{name} has seen no batch (num_batches_tracked is 0): its running statistics may be "
            "the ones it was made with",
            FoldWarning,
            stacklevel=5,
        )
    hooks = [*part._forward_hooks.values(), *part._forward_pre_hooks.values()]  # noqa: SLF001  no public view of them
    if any(not _is_weight_norm(hook) for hook in hooks):
        warnings.warn(
            f"{name} has forward hooks: what they compute is kept, what else they do is not",
            FoldWarning,
            stacklevel=5,
        )


def _is_weight_norm(hook: object) -> bool:
    return type(hook).__module__ == "torch.nn.utils.weight_norm"


def _computed_tensors(module: nn.Module) -> dict[int, Any]:
    """Return a memo for deepcopy, which refuses tensors that autograd computed (weight norm's)."""
    return {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }


def _resolve(part: nn.Module) -> None:
    if parametrize.is_parametrized(part):
        _settle(part)
    for hook in list(part._forward_pre_hooks.values()):  # noqa: SLF001  as above
        if _is_weight_norm(hook):
            remove_weight_norm(part, hook.name)  # type: ignore[attr-defined]  # WeightNorm's own


def _settle(part: nn.Module) -> None:
    """Make the computed tensors plain parameters.

    torch's own remove_parametrizations edits the class, which the original shares with its copy.
    """
    names = list(part.parametrizations)  # type: ignore[arg-type]  # a ModuleDict
    values = {name: getattr(part, name).detach() for name in names}
    part.__class__ = type(part).__bases__[0]  # the class before it was parametrized
    del part.parametrizations
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value))
