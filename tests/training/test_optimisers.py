import pytest
import torch

from training.initialisation import initialise
from training.network import FlatNet
from training.optimisers import build_optimisers, set_learning_rates, set_whitening_bias

from .small import TINY, tiny_recipe


def seeded():
    network = FlatNet(TINY)
    initialise(network, torch.Generator().manual_seed(0))
    return network


@pytest.mark.parametrize("base", ["fast", "best"])
def test_every_trainable_parameter_learns_exactly_once(base):
    network = seeded()
    optimisers = build_optimisers(network, tiny_recipe(base))
    held = [p for o in optimisers for group in o.param_groups for p in group["params"]]
    trainable = [p for p in network.parameters() if p.requires_grad]
    assert sorted(map(id, held)) == sorted(map(id, trainable))


def rates(recipe, step, steps_per_epoch=100):
    optimisers = build_optimisers(seeded(), recipe)
    set_learning_rates(optimisers, recipe, step, steps_per_epoch)
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    return [group["lr"] / group["initial_lr"] for group in groups]


def test_warms_up_from_a_fifth_then_falls_to_nothing():
    recipe = tiny_recipe(epochs=10, warmup=0.1)
    assert [rates(recipe, step)[1] for step in (0, 50, 100, 550, 1000)] == pytest.approx(
        [0.2, 0.6, 1.0, 0.5, 0.0]
    )


def test_the_whitening_bias_has_its_own_shorter_schedule():
    recipe = tiny_recipe(epochs=10, whiten_bias_epochs=2)
    assert [rates(recipe, step)[0] for step in (0, 100, 200, 900)] == pytest.approx([1, 0.5, 0, 0])


def test_the_whitening_bias_is_frozen_after_its_epochs():
    network, recipe = seeded(), tiny_recipe(whiten_bias_epochs=2)
    seen = []
    for epoch in range(4):
        set_whitening_bias(network, recipe, epoch)
        seen.append(network.whiten_bias.requires_grad)
    assert seen == [True, True, False, False]
