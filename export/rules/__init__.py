"""One rule a file: which operators, when they can take an affine over, and what then changes."""

from __future__ import annotations

from export.graph import Blocked
from export.rules.base import Rule, Step, Want
from export.rules.conv import ConvRule

RULES: tuple[Rule, ...] = (ConvRule(),)
RULE_OF: dict[str, Rule] = {op_type: rule for rule in RULES for op_type in rule.op_types}

__all__ = ["RULES", "RULE_OF", "Blocked", "Rule", "Step", "Want"]
