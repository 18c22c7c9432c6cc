from dataclasses import replace

import pytest
import torch

from tests.training.small import TINY, Recorder, shades, tiny_recipe
from training.initialisation import initialise, whiten
from training.loop import MEAN, STD, Trainer
from training.network import FlatNet
from training.precision import choose_compute
from training.symmetry import MirrorSymmetry, mirror_channels

# 9 pixels are 8 behind the whitening: no pool leaves a column out, on one side only.
EVEN = replace(TINY, image_size=9, branches=True)


def network(config=EVEN, *, symmetric=True):
    made = FlatNet(config)
    initialise(made, torch.Generator().manual_seed(0))
    whiten(made, shades(100).images, MEAN, STD)
    if symmetric:
        MirrorSymmetry(made).impose()
    return made


def mirrored_answers(made):
    """Return logits of pictures and of their mirror images, in one batch with one statistic."""
    pictures = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return made.train()(torch.cat((pictures, pictures.flip(3)))).split(6)


@pytest.mark.parametrize(("width", "whiten_width"), [(64, 24), (16, 24), (7, 0), (48, 48)])
def test_partners_are_each_others(width, whiten_width):
    partners = mirror_channels(width, whiten_width)
    assert torch.equal(partners[partners], torch.arange(width))


def test_a_symmetric_network_answers_a_mirrored_picture_alike():
    straight, mirrored = mirrored_answers(network())
    assert torch.allclose(straight, mirrored, atol=1e-4)
    straight, mirrored = mirrored_answers(network(symmetric=False))
    assert not torch.allclose(straight, mirrored, atol=0.1)


@pytest.mark.parametrize("base", ["fast", "best"])
def test_it_stays_symmetric_while_it_learns(tmp_path, base):
    recipe = tiny_recipe(base, network=replace(EVEN, logit_scale=1 / 16), epochs=2, mirror=True)
    pictures = shades(320, size=9), shades(64, seed=9, size=9)
    run = Trainer(recipe, *pictures, seed=0, compute=choose_compute("cpu", "fp32"))
    before = run.network.blocks[0].convs[1].weight.detach().clone()
    trained = run.run(tmp_path / "state.safetensors", Recorder())
    assert not torch.allclose(before, trained.blocks[0].convs[1].weight, atol=0.01)
    straight, mirrored = mirrored_answers(trained)
    assert torch.allclose(straight, mirrored, atol=1e-3 * straight.abs().max())


def test_filters_that_whiten_are_symmetric_already():
    made = network(symmetric=False)
    before = made.whiten.weight.clone()
    MirrorSymmetry(made).impose()
    assert torch.allclose(made.whiten.weight, before, atol=1e-5)


def test_each_filter_bank_still_starts_by_passing_its_input_on():
    conv = network(replace(EVEN, widths=(32, 64), branches=False)).blocks[1].convs[0]
    x = torch.rand(2, 32, 9, 9)
    assert torch.equal(conv(x)[:, :32, 1:-1, 1:-1], x[:, :, 1:-1, 1:-1])
