"""Modules that change values in place: folded only where nothing else sees the change."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from export import fold
from export.comparison import ProofError
from export.module import ModuleFoldError
from tests.export.modules import PICTURE, Calls, randomised


def test_what_is_read_before_and_after_a_change_in_place_is_told_apart():
    """The batch norm reads what was there before; folded forward, its reader still has to."""

    def call(m, x):
        y = x * x
        z = m.bn(y)
        y.relu_().sub_(2.0)
        return m.conv(z) + y[:, :, 1:-1, 1:-1]

    module = randomised(Calls(call, conv=nn.Conv2d(4, 4, 3), bn=nn.BatchNorm2d(4)))
    folded, report = fold(module, PICTURE)
    assert report.folded
    with torch.no_grad():
        torch.testing.assert_close(folded(PICTURE), module(PICTURE), rtol=1e-4, atol=1e-4)


def test_a_view_that_is_changed_in_place_is_refused():
    def call(m, x):
        y = m.conv(x)
        y.flatten(1).relu_()
        return m.bn(y)

    module = randomised(Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6)))
    with pytest.raises(ModuleFoldError, match=r"changes .* in place"):
        fold(module, PICTURE)


def test_a_weight_that_changes_at_run_time_cannot_pass_the_proof():
    class Growing(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm2d(4)
            self.register_buffer("filters", torch.ones(4, 4, 3, 3))

        def forward(self, x):
            self.filters.mul_(2.0)
            return self.bn(functional.conv2d(x, self.filters))

    with pytest.raises(ProofError):
        fold(randomised(Growing()), PICTURE)
