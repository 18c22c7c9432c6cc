import torch

from tests.training.small import TINY, shades
from training import initialisation
from training.architecture import NetworkConfig
from training.augment import normalise
from training.initialisation import initialise, whiten
from training.network import FlatNet

MEAN_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def seeded(config=TINY, seed=0):
    network = FlatNet(config)
    initialise(network, torch.Generator().manual_seed(seed))
    return network


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
    both = torch.cat((images, images.flip(2)))  # a picture and its mirror image
    patches = torch.nn.functional.conv2d(normalise(both, *MEAN_STD), network.whiten.weight[::2])
    flat = patches.permute(1, 0, 2, 3).flatten(1).double()
    assert torch.allclose(flat @ flat.T / flat.shape[1], torch.eye(12).double(), atol=1e-3)


def test_whitening_in_parts_is_that_of_all_patches_together(monkeypatch):
    images = shades(50).images
    monkeypatch.setattr(initialisation, "PATCHES_AT_ONCE", 50 * 11 * 11)
    seen = []
    products = initialisation._patch_products

    def watched(part):
        seen.append(len(part))
        return products(part)

    monkeypatch.setattr(initialisation, "_patch_products", watched)
    whole, parts = seeded(), seeded()
    whiten(whole, images, *MEAN_STD)
    monkeypatch.setattr(initialisation, "PATCHES_AT_ONCE", 20 * 11 * 11)
    whiten(parts, images, *MEAN_STD)
    assert seen == [50, 20, 20, 10]
    assert torch.allclose(parts.whiten.weight, whole.whiten.weight, atol=1e-5)
