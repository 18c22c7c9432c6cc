"""Batch norms inside blocks and branches: one verdict each, and folded where nothing hinders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from export import fold
from tests.export.modules import PICTURE, Calls, randomised


def layers():
    return {
        "conv": nn.Conv2d(4, 6, 3),
        "bn": nn.BatchNorm2d(6),
        "last": nn.Conv2d(6, 2, 1),
    }


def frozen(m, x):
    with torch.no_grad():
        x = m.bn(m.conv(x)).relu()
    return m.last(x)


def frozen_but_for_a_part(m, x):
    with torch.no_grad():
        x = m.conv(x)
        with torch.enable_grad():
            x = m.bn(x)
        x = x.relu()
    return m.last(x)


def frozen_with_two_results(m, x):
    with torch.no_grad():
        y = m.bn(m.conv(x))
        size = y.shape[0]
        z = y.relu()
    return m.last(y) + m.last(z).relu_() * size


@pytest.mark.parametrize("call", [frozen, frozen_but_for_a_part, frozen_with_two_results])
def test_a_batch_norm_without_gradients_folds_and_has_none_afterwards(call):
    module = randomised(Calls(call, **layers()))
    folded, report = fold(module, PICTURE)
    assert len(report.folded) == len(report.verdicts) == 1
    assert "batch_norm" not in str(folded.graph)
    other = torch.randn(5, 4, 9, 9)
    torch.testing.assert_close(folded(other), module(other), rtol=1e-4, atol=1e-4)
    folded(other).sum().backward()
    moved = [name for name, part in folded.named_parameters() if part.grad is not None]
    assert moved == ["last.weight", "last.bias"]


def test_the_output_of_a_module_without_gradients_has_none():
    class Frozen(Calls):
        @torch.no_grad()
        def forward(self, x):
            return self.bn(self.conv(x))

    module = randomised(Frozen(None, **layers()))
    folded, report = fold(module, PICTURE)
    assert report.folded
    np.testing.assert_allclose(folded(PICTURE).numpy(), module(PICTURE), rtol=1e-4, atol=1e-4)


def autocast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.bn(m.conv(x))


def branches(m, x):
    return torch.cond(x.sum() > 0, lambda x: m.bn(m.conv(x)), lambda x: -m.bn(m.conv(x)), (x,))


def branches_under_autocast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return branches(m, x)


@pytest.mark.parametrize(
    ("call", "kept", "owner"),
    [
        (autocast, 1, "wrap_with_autocast"),
        (branches, 2, "cond"),
        (branches_under_autocast, 2, "cond"),
    ],
)
def test_batch_norms_in_a_body_are_kept_one_verdict_each(call, kept, owner):
    def and_one_outside(m, x):
        return m.again(m.last(call(m, x).float()))

    module = randomised(Calls(and_one_outside, **layers(), again=nn.BatchNorm2d(2)))
    folded, report = fold(module, PICTURE)
    assert len(report.folded) == 1
    assert len({verdict.node for verdict in report.kept}) == kept
    assert all(f"({owner}) runs it in a body of its own" in v.reason for v in report.kept)
    with torch.no_grad():
        torch.testing.assert_close(folded(PICTURE), module(PICTURE), rtol=1e-4, atol=1e-4)
