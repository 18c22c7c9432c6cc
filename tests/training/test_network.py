import torch

from tests.training.small import TINY
from training.network import FlatNet


def test_maps_pictures_to_logits():
    assert FlatNet(TINY)(torch.zeros(5, 3, 12, 12)).shape == (5, 10)


def test_no_batch_norm_can_have_a_negative_scale():
    norms = [m for m in FlatNet(TINY).modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 5
    assert all((norm.weight == 1).all() and not norm.weight.requires_grad for norm in norms)
