"""Inputs of every structure and size: what stays free, what is checked, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from export import fold
from export.module_in_place import ModuleFoldError
from tests.export.modules import PICTURE, Calls, behind, randomised


def flattened():
    return Calls(
        lambda m, x: m.bn(m.conv(x)).reshape(x.shape[0], -1),
        conv=nn.Conv2d(4, 4, 3),
        bn=nn.BatchNorm2d(4),
    )


def test_an_example_of_one_row_does_not_fix_the_batch():
    """torch.export takes sizes of 1 for constants: five rows would come out as one long row."""
    module = randomised(flattened())
    folded, _ = fold(module, PICTURE[:1])
    other = torch.randn(5, 4, 20, 30)
    with torch.no_grad():
        torch.testing.assert_close(folded(other), module(other), rtol=1e-4, atol=1e-4)


def test_a_size_that_the_code_insists_on_is_checked_and_not_taken_silently():
    module = randomised(nn.Sequential(flattened(), nn.Linear(144, 2)))
    folded, _ = fold(module, PICTURE)
    with pytest.raises((AssertionError, RuntimeError)):
        folded(torch.randn(3, 4, 9, 8))


def test_sizes_that_torch_cannot_reason_about_are_fixed_and_the_batch_stays_free():
    """The end of every ResNet for CIFAR-10: a pool over 4x4, a view, a linear layer."""

    def call(m, x):
        x = functional.avg_pool2d(m.bn(m.conv(x)), 4)
        return m.last(x.view(x.size(0), -1))

    module = randomised(
        Calls(
            call,
            conv=nn.Conv2d(4, 6, 3, stride=8, padding=1),
            bn=nn.BatchNorm2d(6),
            last=nn.Linear(6, 2),
        )
    )
    folded, report = fold(module, torch.randn(1, 4, 32, 32))
    assert report.folded
    other = torch.randn(5, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(other), module(other), rtol=1e-4, atol=1e-4)
    with pytest.raises((AssertionError, RuntimeError)):
        folded(torch.randn(5, 4, 48, 48))


def test_control_flow_over_data_is_refused_in_one_sentence():
    module = Calls(lambda m, x: m.conv(x) if x.sum() > 0 else x, conv=nn.Conv2d(4, 4, 3))
    with pytest.raises(ModuleFoldError, match=r"torch\.export cannot follow Calls") as caught:
        fold(randomised(module), PICTURE)
    assert "\n" not in str(caught.value)


def test_without_gamma_and_beta_the_channels_are_counted_where_sizes_are_free():
    norm = nn.BatchNorm1d(12, affine=False)
    module = randomised(nn.Sequential(nn.Flatten(), norm, nn.Linear(12, 3)))
    folded, report = fold(module, torch.randn(2, 3, 2, 2))
    assert report.folded
    other = torch.randn(5, 3, 2, 2)
    with torch.no_grad():
        torch.testing.assert_close(folded(other), module(other), rtol=1e-4, atol=1e-4)


class Several(nn.Module):
    """Reads two pictures, given as `pick` takes them from the arguments."""

    def __init__(self, pick):
        super().__init__()
        self.pick = pick
        self.net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))

    def forward(self, *given):
        first, second = self.pick(*given)
        return self.net(first) - second.mean()


STRUCTURES = {
    "several": (lambda a, b: (a, b), lambda a, b: (a, b)),
    "a list": (lambda pair: pair, lambda a, b: ([a, b],)),
    "a tuple": (lambda pair: pair, lambda a, b: ((a, b),)),
    "a dictionary": (lambda named: (named["a"], named["b"]), lambda a, b: ({"a": a, "b": b},)),
}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("name", STRUCTURES)
def test_inputs_of_any_structure_are_read_and_their_batch_stays_free(name, rows):
    pick, pack = STRUCTURES[name]
    module = randomised(Several(pick))
    folded, report = fold(module, pack(PICTURE[:rows], PICTURE[:rows]))
    assert report.folded
    other = pack(torch.randn(5, 4, 9, 9), torch.randn(5, 4, 9, 9))
    with torch.no_grad():
        torch.testing.assert_close(folded(*other), module(*other), rtol=1e-4, atol=1e-4)


def test_a_graph_of_twice_the_rows_that_refuses_the_example_is_not_taken():
    """One channel is left, so torch guards that there be two rows."""
    module = Calls(lambda m, x: functional.pixel_shuffle(x, 2).mean((2, 3)) * 2)
    folded, _ = fold(module.eval(), PICTURE[:1])
    torch.testing.assert_close(folded(PICTURE[:1]), module(PICTURE[:1]))


@pytest.mark.parametrize("rows", [1, 2])
def test_a_single_row_that_the_code_treats_in_its_own_way_fixes_the_batch(rows):
    module = randomised(behind(lambda x: x if x.shape[0] == 1 else x * 2.0))
    folded, report = fold(module, PICTURE[:rows])
    assert report.folded
    with torch.no_grad():
        old, new = module(PICTURE[:rows]), folded(PICTURE[:rows])
    torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-4)
    with pytest.raises(AssertionError, match="Guard failed"):
        folded(PICTURE[: 3 - rows])
