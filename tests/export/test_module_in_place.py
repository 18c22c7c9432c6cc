"""Modules that change values in place: folded only where nothing else sees the change."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from export import fold
from export.module_in_place import ModuleFoldError
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


class Growing(nn.Module):
    """A filter that doubles with every call, and a batch norm behind it."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(4)
        self.register_buffer("filters", torch.ones(4, 4, 3, 3))

    def forward(self, x):
        self.filters.mul_(2.0)
        return self.bn(functional.conv2d(x, self.filters))


def test_a_weight_that_changes_at_run_time_keeps_and_the_proof_does_not_change_it():
    module = randomised(Growing())
    folded, report = fold(module, PICTURE)
    assert "computed by mul_" in report.kept[0].reason
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(folded(PICTURE), module(PICTURE))


@pytest.mark.parametrize("rows", [1, 3])
def test_an_input_that_is_changed_in_place_is_left_to_the_caller_as_it_was(rows):
    module = randomised(
        Calls(
            lambda m, x: m.bn(m.conv(x.sub_(0.5).div_(0.25))),
            conv=nn.Conv2d(4, 6, 3),
            bn=nn.BatchNorm2d(6),
        )
    )
    picture = PICTURE[:rows].clone()
    folded, report = fold(module, picture)
    assert report.folded
    assert torch.equal(picture, PICTURE[:rows])
    with torch.no_grad():
        old, new = module(picture.clone()), folded(picture.clone())
    torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)


def _average(m, x):
    m.conv.seen.copy_(m.conv.seen * 0.5 + x.mean() * 0.25)
    return m.bn(m.conv(x))


def _normed(m, x):
    y = m.bn(m.conv(x))
    m.conv.seen.copy_(y.mean())
    return m.conv(x)


def _view(m, x):
    m.conv.seen.view(1, 1).add_(1).mul_(2)
    return m.bn(m.conv(x))


@pytest.mark.parametrize("call", [_average, _normed, _view])
def test_what_a_module_writes_into_a_buffer_stays_what_it_is(call):
    """Nothing in the graph reads it, but it is there after the call, for the next one."""
    module = Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6))
    module.conv.register_buffer("seen", torch.ones(1))
    folded, report = fold(randomised(module), PICTURE)
    assert report.folded
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(folded(PICTURE), module(PICTURE), rtol=1e-4, atol=1e-4)
    assert not torch.equal(module.conv.seen, torch.ones(1))
    torch.testing.assert_close(folded.conv.seen, module.conv.seen)


def test_what_is_read_of_a_buffer_before_it_changes_is_read_before():
    def call(m, x):
        y = m.conv.seen[:3] * 2.0
        m.conv.seen.add_(1.0)
        return m.bn(m.conv(x) + m.conv(y))

    module = Calls(call, conv=nn.Conv2d(4, 6, 3), bn=nn.BatchNorm2d(6))
    module.conv.register_buffer("seen", torch.randn(5, 4, 8, 8))
    folded, _ = fold(randomised(module), PICTURE)
    with torch.no_grad():
        torch.testing.assert_close(folded(PICTURE), module(PICTURE), rtol=1e-4, atol=1e-4)


def test_a_backward_hook_is_not_in_the_way():
    module = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
    module[0].register_full_backward_hook(lambda *_: None)
    assert fold(randomised(module), PICTURE)[1].folded
