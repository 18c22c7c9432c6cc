from __future__ import annotations

import pytest
import torch
from torch import nn

from export.comparison import ProofError
from export.module_proof import check
from tests.export.modules import PICTURE, Calls


def calls(function):
    return Calls(function).eval()


def test_another_type_of_the_same_values_is_no_proof():
    with pytest.raises(ProofError, match=r"other types: .*float64.*, the original .*float32"):
        check(calls(lambda _, x: x), calls(lambda _, x: x.double()), (PICTURE,))


def test_imaginary_parts_are_compared_as_well():
    picture = torch.complex(PICTURE, PICTURE)
    check(calls(lambda _, x: x * 1), calls(lambda _, x: x), (picture,))
    with pytest.raises(ProofError, match="something else"):
        check(calls(lambda _, x: x.conj().clone()), calls(lambda _, x: x), (picture,))


def test_inputs_buffers_and_parameters_are_afterwards_what_they_were():
    def change(m, pair):
        pair[0].add_(1)
        m.norm.running_mean.add_(1)
        m.norm.weight.mul_(2)
        return m.norm(pair[0])

    module = Calls(change, norm=nn.BatchNorm2d(4)).eval()
    picture = PICTURE.clone()
    check(module, module, ([picture],))
    assert torch.equal(picture, PICTURE)
    assert not module.norm.running_mean.any()
    assert (module.norm.weight == 1).all()
