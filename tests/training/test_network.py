import pytest
import torch

import training.network
from flatfold.contract.errors import UsageError
from training.augment import normalise
from training.network import FlatNet, NetworkConfig, initialise, whiten

from .small import TINY, shades

MEAN_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def seeded(config=TINY, seed=0):
    network = FlatNet(config)
    initialise(network, torch.Generator().manual_seed(seed))
    return network


def test_maps_pictures_to_logits():
    assert seeded()(torch.zeros(5, 3, 12, 12)).shape == (5, 10)


def test_a_seed_repeats_the_weights_and_another_does_not():
    first, again, other = (seeded(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_each_filter_bank_starts_by_passing_its_input_on():
    conv = seeded(NetworkConfig(widths=(32, 64, 64))).blocks[1].convs[0]
    x = torch.rand(2, 32, 9, 9)
    assert torch.equal(conv(x)[:, :32, 1:-1, 1:-1], x[:, :, 1:-1, 1:-1])


def test_whitening_decorrelates_patches():
    images = shades(200).images
    network = seeded()
    whiten(network, images, *MEAN_STD, eps=0)
    patches = torch.nn.functional.conv2d(normalise(images, *MEAN_STD), network.whiten.weight[:12])
    flat = patches.permute(1, 0, 2, 3).flatten(1).double()
    assert torch.allclose(flat @ flat.T / flat.shape[1], torch.eye(12).double(), atol=1e-3)


def test_whitening_in_parts_is_that_of_all_patches_together(monkeypatch):
    images = shades(50).images
    monkeypatch.setattr("training.network.PATCHES_AT_ONCE", 50 * 11 * 11)
    seen = []
    products = training.network._patch_products
    monkeypatch.setattr(
        "training.network._patch_products", lambda part: (seen.append(len(part)), products(part))[1]
    )
    whole, parts = seeded(), seeded()
    whiten(whole, images, *MEAN_STD)
    monkeypatch.setattr("training.network.PATCHES_AT_ONCE", 20 * 11 * 11)
    whiten(parts, images, *MEAN_STD)
    assert seen == [50, 20, 20, 10]
    assert torch.allclose(parts.whiten.weight, whole.whiten.weight, atol=1e-5)


def test_no_batch_norm_can_have_a_negative_scale():
    norms = [m for m in seeded().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 5
    assert all((norm.weight == 1).all() and not norm.weight.requires_grad for norm in norms)


def test_config_survives_json_types():
    config = NetworkConfig(widths=(16, 32), depths=(3, 2))
    assert NetworkConfig.from_dict({**config.to_dict(), "widths": [16, 32]}) == config
    assert config.name == "flatnet-16x3-32x2"


def test_pictures_too_small_for_the_blocks_are_refused():
    with pytest.raises(UsageError, match="at least 9"):
        FlatNet(NetworkConfig(image_size=8))
    FlatNet(NetworkConfig(image_size=9))
