"""What folding says of each batch norm, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from flatfold.contract.errors import FlatfoldError

FOLDED = "folded"
KEPT = "kept"


class FoldRefusedError(FlatfoldError):
    """A batch norm's parameters are broken; folding would hide it, so nothing is written."""


@dataclass(frozen=True)
class Verdict:
    """What became of one batch norm.

    Attributes:
        node: the batch norm's name, or its output's where it has none.
        verdict: "folded" or "kept".
        rule: the rule that folded it, e.g. "backward into Conv"; "" when kept.
        reason: one sentence.
        blocker: the name of the node in the way; "" when folded or when no node is.
    """

    node: str
    verdict: str
    rule: str = ""
    reason: str = ""
    blocker: str = ""


@dataclass(frozen=True)
class Merge:
    """Parallel branches that became one convolution.

    Attributes:
        node: name of the convolution that took the others in.
        branches: what was merged, in the order of the sum, e.g. ("conv3", "conv1", "identity").
    """

    node: str
    branches: tuple[str, ...]


@dataclass(frozen=True)
class FoldReport:
    """All that folding did to a model.

    Attributes:
        verdicts: one a batch norm, in graph order; bodies of control flow come before their owner.
        merges: branches that became one convolution.
        absorbed: names of constant Add, Sub, Mul and Div nodes that folded as well.
    """

    verdicts: tuple[Verdict, ...] = ()
    merges: tuple[Merge, ...] = ()
    absorbed: tuple[str, ...] = ()

    @property
    def folded(self) -> tuple[Verdict, ...]:
        """The batch norms that are gone."""
        return tuple(verdict for verdict in self.verdicts if verdict.verdict == FOLDED)

    @property
    def kept(self) -> tuple[Verdict, ...]:
        """The batch norms that are left."""
        return tuple(verdict for verdict in self.verdicts if verdict.verdict == KEPT)

    def to_json(self) -> str:
        """Return the report as indented JSON with a count of each verdict at its top."""
        counts = {"folded": len(self.folded), "kept": len(self.kept)}
        return json.dumps(counts | asdict(self), indent=2) + "\n"

    def summary(self) -> str:
        """Return the lines that the command prints."""
        total = len(self.verdicts)
        lines = [f"{len(self.folded)} of {total} batch norms folded"]
        if self.absorbed:
            lines.append(f"{len(self.absorbed)} constant Add/Sub/Mul/Div nodes folded")
        lines += [f"merged {' + '.join(merge.branches)} into {merge.node}" for merge in self.merges]
        lines += [f"kept {verdict.node}: {verdict.reason}" for verdict in self.kept]
        return "\n".join(lines)
