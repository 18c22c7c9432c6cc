"""Fold the batch norms of an ONNX model: a thin walk over its nodes, the rules do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from export.affine_nodes import ARITHMETIC, arithmetic, batch_norm_affine
from export.graph import Graph
from export.graph_body import Body, open_bodies
from export.graph_shapes import bodies
from export.merge import merge_branches
from export.node import Blocked, Node
from export.plan import carry_out, plan_backward, plan_forward
from export.report import FOLDED, KEPT, FoldReport, Merge, Verdict
from export.resolve import resolve_constants
from export.rules import Step, Want
from export.rules.linear import stored
from export.validity import blaming

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from export.algebra import Affine


_SHIFT_LEFT = ", its shift left as an Add"


def fold_model(model: ModelProto, *, merge_branches: bool = True) -> tuple[ModelProto, FoldReport]:
    """Return a copy of the model with every batch norm folded that folds exactly, and the report.

    Args:
        model: any ONNX model of opset 7 or newer, its data in memory; it is left as it is.
        merge_branches: merge parallel convolutions of one input that are added up into one.

    Raises:
        FoldRefusedError: a batch norm has NaN, infinite or negative statistics; names the node.
        InvalidModelError: the model breaks ONNX's rules.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    with blaming(model):
        return folded, fold_in_place(folded, merge_branches=merge_branches)


def fold_in_place(
    model: ModelProto, *, merge_branches: bool = True, folder: Path | None = None
) -> FoldReport:
    """Fold `model` itself, as `fold_model` does.

    Args:
        model: as in `fold_model`; external data may still be in its files.
        merge_branches: as in `fold_model`.
        folder: where those files are.
    """
    for proto, _ in bodies(model):
        Graph(proto).remove_unread()  # first: a body that nothing runs has no verdict
    reports = []
    for body in reversed(
        open_bodies(model, folder)
    ):  # inner bodies first: what they stop reading, the outer one drops
        body.reindex()
        reports.append(fold_body(body, merge_branches=merge_branches))
    return FoldReport(
        verdicts=tuple(verdict for report in reports for verdict in report.verdicts),
        merges=tuple(merge for report in reports for merge in report.merges),
        absorbed=tuple(name for report in reports for name in report.absorbed),
    )


def fold_body(body: Body, *, merge_branches: bool) -> FoldReport:
    """Fold one graph in place, without the bodies inside its nodes, and return what was done.

    Raises:
        FoldRefusedError: a batch norm has NaN, infinite or negative statistics; names the node.
    """
    return _Folder(body, merge_branches=merge_branches).fold()


class _Folder:
    """Folds one body and keeps the books."""

    def __init__(self, body: Body, *, merge_branches: bool) -> None:
        self.body = body
        self.merge_branches = merge_branches
        self.absorbed: list[str] = []
        self.merges: list[Merge] = []
        self.names: dict[Node, str] = {}
        self.verdicts: dict[Node, Verdict] = {}

    def fold(self) -> FoldReport:
        """Resolve constants, then sweep and merge until nothing changes."""
        resolve_constants(self.body)
        self.names = {node: node.name for node in self.body.nodes if _is_batch_norm(node)}
        while self._sweep() or self._merge():
            pass
        self.body.tidy()
        return FoldReport(
            verdicts=tuple(self.verdicts[node] for node in self.names),
            merges=tuple(self.merges),
            absorbed=tuple(self.absorbed),
        )

    def _merge(self) -> bool:
        if not self.merge_branches:
            return False
        found = merge_branches(self.body)
        self.merges += found
        for node, name in self.names.items():
            for merge in found:
                if name in merge.branches:
                    rule = f"merged into {merge.node}"
                    self.verdicts[node] = Verdict(name, FOLDED, rule, rule)
        return bool(found)

    def _sweep(self) -> bool:
        """Try every affine node: backward in graph order, then forward against it."""
        changed = False
        for node in list(self.body.nodes):
            changed |= self._try(node, backward=True)
        for node in reversed(list(self.body.nodes)):
            changed |= self._try(node, backward=False)
        return changed

    def _try(self, node: Node, *, backward: bool) -> bool:
        if node not in self.body:
            return False  # an earlier fold of this sweep took it out
        if _is_batch_norm(node):
            return self._try_batch_norm(node, backward=backward)
        if node.op_type in ARITHMETIC:
            return self._try_arithmetic(node, backward=backward)
        return False

    def _try_batch_norm(self, node: Node, *, backward: bool) -> bool:
        try:
            affine = batch_norm_affine(self.body, node)
            rule = self._fold_batch_norm(node, affine, backward=backward)
        except Blocked as blocked:
            self._keep(node, blocked, backward=backward)
            return False
        self.verdicts[node] = Verdict(self.names[node], FOLDED, rule, f"folded {rule}")
        return True

    def _fold_batch_norm(self, node: Node, affine: Affine, *, backward: bool) -> str:
        """Fold one batch norm and return how.

        Raises:
            Blocked: it cannot fold; nothing has changed.
        """
        try:
            steps = self._plan(node, 1, affine, backward=backward)
        except Blocked as blocked:
            if not backward or not blocked.shift_only or not affine.shifts:
                raise
            steps = self._plan(node, 1, affine.scale_only, backward=backward)
            self._leave_shift(node, affine, steps)
            return _rule_text(steps, backward=backward) + _SHIFT_LEFT
        self._take_out(node, steps)
        return _rule_text(steps, backward=backward)

    def _leave_shift(self, node: Node, affine: Affine, steps: list[Step]) -> None:
        """Make the batch norm an Add of its shift, where a product without a bias is behind it."""
        body = self.body
        rank = body.rank(node.input(0))
        beta = body.constant(node.input(2))
        if rank is None or beta is None:
            raise Blocked(node.name, f"{node.label}: the rank of what it reads is unknown")
        shift = affine.shift.reshape(-1, *(1 for _ in range(rank - 2)))
        element = body.element(node.input(0))  # statistics may be of a wider type than the values
        dtype = onnx.helper.tensor_dtype_to_np_dtype(element) if element else beta.dtype
        body.set_constant(node, 2, stored(node, shift, dtype))
        carry_out(body, steps)
        body.become(node, "Add", [node.input(0), node.input(2)])

    def _keep(self, node: Node, blocked: Blocked, *, backward: bool) -> None:
        before = self.verdicts.get(node)
        if backward or before is None or before.reason == blocked.reason:
            self.verdicts[node] = Verdict(
                self.names[node], KEPT, reason=blocked.reason, blocker=blocked.blocker
            )
            return
        self.verdicts[node] = Verdict(
            self.names[node],
            KEPT,
            reason=f"{before.reason.partition('; forward: ')[0]}; forward: {blocked.reason}",
            blocker=before.blocker or blocked.blocker,
        )

    def _try_arithmetic(self, node: Node, *, backward: bool) -> bool:
        try:
            found = arithmetic(self.body, node)
            if found is None or found.affine is None:
                return False
            steps = self._plan(node, found.axis, found.affine, backward=backward, slot=found.slot)
        except Blocked:
            return False
        self._take_out(node, steps, found.slot)
        if node in self.verdicts:  # the shift that a batch norm had left
            rule = self.verdicts[node].rule.removesuffix(_SHIFT_LEFT)
            self.verdicts[node] = Verdict(self.names[node], FOLDED, rule, f"folded {rule}")
        else:
            self.absorbed.append(node.name)
        return True

    def _plan(
        self, node: Node, axis: int, affine: Affine, *, backward: bool, slot: int = 0
    ) -> list[Step]:
        if backward:
            steps = plan_backward(self.body, Want(node.input(slot), axis, affine))
        else:
            steps = plan_forward(self.body, Want(node.output, axis, affine))
        if not self.body.can_bypass(node, slot):
            raise Blocked(node.name, f"{node.label} stands between an input and an output")
        return steps

    def _take_out(self, node: Node, steps: list[Step], slot: int = 0) -> None:
        carry_out(self.body, steps)
        self.absorbed += [step.node.name for step in steps if step.node not in self.body]
        self.body.bypass(node, slot)


def _is_batch_norm(node: Node) -> bool:
    return node.op_type == "BatchNormalization"


def _rule_text(steps: list[Step], *, backward: bool) -> str:
    """Return for example "backward into Conv through MaxPool"."""
    into = sorted({step.node.op_type for step in steps if not step.wants})
    through = sorted({step.node.op_type for step in steps if step.wants})
    text = f"{'backward' if backward else 'forward'} into {' and '.join(into)}"
    if not into:
        return "an identity"
    return f"{text} through {' and '.join(through)}" if through else text
