"""Write a PyTorch module down as a graph, with sizes as free as its code and torch.export allow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.export import Dim, ShapesCollection
from torch.utils import _pytree

from export.comparison import ProofError
from export.module_in_place import ModuleFoldError
from export.module_proof import check

if TYPE_CHECKING:
    from torch import fx, nn


def written_down(module: nn.Module, arguments: tuple[Any, ...]) -> fx.GraphModule:
    """Return the graph; sizes stay free where the module's code allows it, and are checked else.

    torch.export takes a size of 1 for a constant, and a batch of 1 is what most examples have:
    twice the rows are tried first. Some code is beyond its reasoning about free sizes (a ResNet's
    pool and view before its last layer): then the batch alone is free, and at last nothing.

    It takes a free size for one that is never 1, without a check: what code does with a single row
    alone is lost. So a graph counts only once it did what the module does.

    Raises:
        ModuleFoldError: torch.export cannot follow the module.
        ProofError: the graph computes something else even with all sizes fixed.
    """
    doubled = _pytree.tree_map(_twice, arguments)
    reasons: list[Exception] = []
    for given, free in (
        (doubled, _free(doubled)),
        (doubled, _free(doubled, 1)),
        (arguments, _free(arguments)),
        (arguments, None),
    ):
        try:
            graph = torch.export.export(module, given, dynamic_shapes=free).module()
            _check_graph(module, graph, arguments)
        except Exception as error:  # noqa: BLE001  it raises whatever the module's own code meets
            reasons.append(error)
        else:
            return graph
    last = reasons[-1]
    if isinstance(last, ProofError):
        raise last
    lines = (text for text in str(last).splitlines() if text.strip())
    raise ModuleFoldError(
        f"torch.export cannot follow {type(module).__name__}: {type(last).__name__}: "
        f"{next(lines, 'no reason given')}"
    ) from last


def _free(arguments: tuple[Any, ...], axes: int | None = None) -> Any:
    """Let the first `axes` axes of every tensor be free, however deep it lies; None: all."""
    shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]  # torch's own
    for value in _pytree.tree_leaves(arguments):
        if isinstance(value, torch.Tensor):
            shapes[value] = dict.fromkeys(range(value.ndim)[:axes], Dim.AUTO)
    return shapes


def _check_graph(module: nn.Module, graph: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Raise where the graph cannot run the example, or differs on it or on its first row alone.

    A graph that refuses the single row is honest about it.
    """
    name = "what torch.export wrote down"
    check(module, graph, arguments, name=name)
    try:
        check(module, graph, _pytree.tree_map(_first_row, arguments), name=name)
    except ProofError:
        raise
    except Exception:  # noqa: BLE001, S110  whatever the module's own code or the guards raise
        pass


def _twice(value: Any) -> Any:
    """Return a batch of one row as a batch of two, anything else as it is."""
    single = isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[0] == 1
    return torch.cat([value, value]) if single else value


def _first_row(value: Any) -> Any:
    """Return a batch without all rows but the first, anything else as it is."""
    return value[:1] if isinstance(value, torch.Tensor) and value.ndim > 1 else value
