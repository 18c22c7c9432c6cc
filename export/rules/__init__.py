"""One rule a file: which operators, when they can take an affine over, and what then changes."""

from __future__ import annotations

from export.rules.add import AddRule
from export.rules.average_pool import AveragePoolRule
from export.rules.base import Rule, Step, Want
from export.rules.batch_norm import BatchNormRule
from export.rules.concat import ConcatRule
from export.rules.conv import ConvRule
from export.rules.conv_transpose import ConvTransposeRule
from export.rules.depth_to_space import DepthToSpaceRule
from export.rules.gemm import GemmRule
from export.rules.identity import CastRule, DropoutRule, IdentityRule
from export.rules.matmul import MatMulRule
from export.rules.max_pool import MaxPoolRule
from export.rules.multiply import MultiplyRule
from export.rules.pad import PadRule
from export.rules.reduce import ReduceRule
from export.rules.reshape import ReshapeRule
from export.rules.resize import ResizeRule
from export.rules.transpose import TransposeRule

RULES: tuple[Rule, ...] = (
    ConvRule(),
    ConvTransposeRule(),
    GemmRule(),
    MatMulRule(),
    BatchNormRule(),
    AddRule(),
    MultiplyRule(),
    ConcatRule(),
    IdentityRule(),
    DropoutRule(),
    CastRule(),
    MaxPoolRule(),
    AveragePoolRule(),
    ReduceRule(),
    PadRule(),
    ResizeRule(),
    DepthToSpaceRule(),
    ReshapeRule(),
    TransposeRule(),
)
RULE_OF: dict[str, Rule] = {op_type: rule for rule in RULES for op_type in rule.op_types}

__all__ = ["RULES", "RULE_OF", "Rule", "Step", "Want"]
