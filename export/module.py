"""Fold the batch norms of a PyTorch module; the result is a working module again.

torch.export writes down every call with the parameters that it reads, whatever class made it: a
functional batch norm, SyncBatchNorm and subclasses all are one operator. Folding goes by call,
not by module: a convolution that is called twice gets weights of its own for the call that the
batch norm follows, and a weight that others read is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from export.algebra import Affine, DegenerateStatisticsError, absorb_after
from export.module_calls import (
    BIAS,
    CONVOLUTIONS,
    LINEAR,
    TRANSPOSED,
    WEIGHT,
    Layout,
    call_name,
    operator,
)
from export.module_preparation import prepare
from export.module_proof import check
from export.report import FOLDED, KEPT, FoldRefusedError, FoldReport, Verdict
from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from numpy.typing import NDArray

aten = torch.ops.aten
DROPOUTS = {aten.dropout, aten.feature_dropout}
UNCHANGED = {
    aten.clone, aten.contiguous, aten.alias,
    aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d,
}  # fmt: skip
# Each of their outputs is a mean of inputs, never of padding: shift and scale pass whole.
AVERAGES = {aten.adaptive_avg_pool1d, aten.adaptive_avg_pool2d, aten.adaptive_avg_pool3d}
MAX_POOLS = {aten.max_pool1d, aten.max_pool2d, aten.max_pool3d}


class ModuleFoldError(FlatfoldError):
    """This module cannot be folded; the message says why in one sentence."""


class _Kept(Exception):  # noqa: N818  no error: the answer "this stays", with its reason
    def __init__(self, blocker: str, reason: str) -> None:
        super().__init__(reason)
        self.blocker = blocker
        self.reason = reason


def fold_module(
    module: nn.Module, example: torch.Tensor | tuple[Any, ...]
) -> tuple[nn.Module, FoldReport]:
    """Return a folded copy of `module` for inference, proved on `example`, and the report.

    Args:
        module: any module that torch.export can write down; it is left as it is.
        example: one input, or a tuple of all; other sizes work where the module's code leaves them
            free, and raise an error where it does not.

    Raises:
        ModuleFoldError: torch.export cannot follow the module.
        FoldRefusedError: a batch norm has NaN, infinite or negative statistics; names it.
        ProofError: the folded module computes something else.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    ready = prepare(module)
    root = _written_down(ready, arguments)
    verdicts = tuple(
        _Fold(root, node).verdict()
        for node in list(root.graph.nodes)
        if operator(node) is aten.batch_norm
    )
    root.graph.eliminate_dead_code()
    folded = fx.GraphModule(root, root.graph, type(module).__name__).eval()
    check(ready, folded, arguments)
    return folded, FoldReport(verdicts)


def _written_down(module: nn.Module, arguments: tuple[Any, ...]) -> fx.GraphModule:
    """Return the graph; sizes stay free where the module's code allows it, and are checked else.

    torch.export takes a size of 1 for a constant, and a batch of 1 is what most examples have:
    twice the rows are tried first.
    """
    doubled = tuple(map(_twice, arguments))
    try:
        return _exported(module, doubled)
    except Exception:  # noqa: BLE001  the module's own code may insist on one row: try as given
        try:
            return _exported(module, arguments)
        except Exception as error:  # torch.export raises whatever the module's own code meets
            lines = (text for text in str(error).splitlines() if text.strip())
            raise ModuleFoldError(
                f"torch.export cannot follow {type(module).__name__}: {type(error).__name__}: "
                f"{next(lines, 'no reason given')}"
            ) from error


def _exported(module: nn.Module, arguments: tuple[Any, ...]) -> fx.GraphModule:
    free = tuple(
        dict.fromkeys(range(value.ndim), torch.export.Dim.AUTO)
        if isinstance(value, torch.Tensor)
        else None
        for value in arguments
    )
    return torch.export.export(module, arguments, dynamic_shapes=free).module()


def _twice(value: Any) -> Any:
    """Return a batch of one row as a batch of two, anything else as it is."""
    single = isinstance(value, torch.Tensor) and value.ndim > 1 and value.shape[0] == 1
    return torch.cat([value, value]) if single else value


@dataclass
class _Fold:
    """One batch norm call and the search for the linear call that takes it over."""

    root: fx.GraphModule
    node: fx.Node

    def verdict(self) -> Verdict:
        """Fold if it is exact."""
        name = call_name(self.node)
        try:
            linear = self._fold()
        except _Kept as kept:
            return Verdict(name, KEPT, reason=kept.reason, blocker=kept.blocker)
        return Verdict(
            name, FOLDED, f"backward into {operator(linear)}", f"folded into {call_name(linear)}"
        )

    def _fold(self) -> fx.Node:
        affine = self._affine()
        linear = self._linear(affine)
        weight, bias = self._values(linear)
        layout = Layout.of(linear)
        folded, shift = absorb_after(layout.canonical(weight), bias, affine)
        like = _fetch(self.root, linear.args[WEIGHT])
        own = (_tensor(layout.original(folded, weight.shape), like), _tensor(shift, like))
        self._store(linear, own)
        self.node.replace_all_uses_with(self.node.args[0])  # type: ignore[arg-type]  # its input
        self.root.graph.erase_node(self.node)
        return linear

    def _affine(self) -> Affine:
        _, gamma, beta, mean, variance, training, _, epsilon, _ = self.node.args
        if training:
            raise _Kept("", "it normalises with batch statistics")
        mean_values, variance_values = self._parameter(mean), self._parameter(variance)
        gammas = np.ones_like(mean_values) if gamma is None else self._parameter(gamma)
        betas = np.zeros_like(mean_values) if beta is None else self._parameter(beta)
        try:
            return Affine.of_batch_norm(
                gammas,
                betas,
                mean_values,
                variance_values,
                float(epsilon),  # type: ignore[arg-type]  # a number
            )
        except DegenerateStatisticsError as error:
            raise FoldRefusedError(f"{call_name(self.node)}: {error}") from error

    def _linear(self, affine: Affine) -> fx.Node:
        """Walk back over calls that leave channels whole to a linear call that only this reads."""
        node = self.node.args[0]
        while isinstance(node, fx.Node):
            if node.op == "placeholder":
                break
            if len(node.users) > 1:
                raise _Kept(call_name(node), f"{call_name(node)} has {len(node.users)} consumers")
            called = operator(node)
            if called in CONVOLUTIONS | TRANSPOSED | LINEAR:
                return node
            if called in MAX_POOLS and (affine.scale < 0).any():
                count = int((affine.scale < 0).sum())
                raise _Kept(
                    call_name(node), f"{count} channels behind {call_name(node)} scale below 0"
                )
            if called in DROPOUTS and node.args[2]:
                raise _Kept(call_name(node), f"{call_name(node)} is on and drops values at random")
            if called not in UNCHANGED | AVERAGES | DROPOUTS | MAX_POOLS:
                break
            node = node.args[0]
        raise _Kept(call_name(node), f"{call_name(node)} cannot take a scale and shift over")

    def _values(self, linear: fx.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight = self._parameter(linear.args[WEIGHT])
        rank = 2 if operator(linear) in LINEAR else weight.ndim
        if linear.meta["val"].ndim != rank:
            raise _Kept(call_name(linear), f"the channels of {call_name(linear)} are not on axis 1")
        bias = linear.args[BIAS] if len(linear.args) > BIAS else None
        channels = self._parameter(self.node.args[3]).size
        return weight, np.zeros(channels) if bias is None else self._parameter(bias)

    def _parameter(self, node: Any) -> NDArray[np.float64]:
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            raise _Kept(call_name(node), f"{call_name(node)} is computed at run time")
        return _fetch(self.root, node).detach().double().cpu().numpy()

    def _store(self, linear: fx.Node, parameters: tuple[nn.Parameter, nn.Parameter]) -> None:
        """Give this one call parameters of its own; the old ones stay with their other readers."""
        own = []
        for role, parameter in zip(("weight", "bias"), parameters, strict=True):
            name = f"{linear.name}_{role}_folded"
            self.root.register_parameter(name, parameter)
            with self.root.graph.inserting_before(linear):
                own.append(self.root.graph.get_attr(name))
        linear.args = (linear.args[0], *own, *linear.args[BIAS + 1 :])


def _tensor(values: NDArray[np.float64], like: torch.Tensor) -> nn.Parameter:
    tensor = torch.from_numpy(np.ascontiguousarray(values)).to(like.device, like.dtype)
    if not torch.isfinite(tensor).all():
        raise _Kept("", f"the folded value {np.abs(values).max():g} overflows {like.dtype}")
    return nn.Parameter(tensor, requires_grad=like.requires_grad)


def _fetch(root: nn.Module, node: Any) -> torch.Tensor:
    path, _, name = str(node.target).rpartition(".")
    value: torch.Tensor = getattr(root.get_submodule(path), name)
    return value
