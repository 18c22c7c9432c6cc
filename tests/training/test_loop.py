import pytest
import torch

from training.loop import Trainer, TrainingError
from training.precision import choose_compute

from .small import Recorder, shades, tiny_recipe

CPU = choose_compute("cpu", "fp32")


class Killed(BaseException):
    pass


class Killer(Recorder):
    """Ends the run in the middle of the epoch after `epochs` whole ones."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def batch(self, epoch, step, loss, accuracy):
        if epoch == self.epochs and step == 2:
            raise Killed


def trainer(recipe, seed=0):
    return Trainer(recipe, shades(320), shades(64, seed=9), seed=seed, compute=CPU)


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("base", ["fast", "best"])
def test_learns_what_can_be_learnt(tmp_path, base):
    recorder = Recorder()
    trainer(tiny_recipe(base, epochs=8)).run(tmp_path / "state.safetensors", recorder)
    assert recorder.records[-1]["holdout_accuracy"] > 0.5
    assert len(recorder.batches) == 8 * 10


@pytest.mark.parametrize("base", ["fast", "best"])
def test_a_broken_run_resumed_ends_with_the_same_bits(tmp_path, base):
    recipe = tiny_recipe(base)
    whole = weights(trainer(recipe).run(tmp_path / "whole.safetensors", Recorder()))
    state = tmp_path / "broken.safetensors"
    with pytest.raises(Killed):
        trainer(recipe).run(state, Killer(1))
    again = trainer(recipe)
    again.resume(state)
    assert again.next_epoch == 1
    resumed = weights(again.run(state, Recorder()))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [record["epoch"] for record in again.history] == [1, 2, 3]


def test_seeds_repeat_and_differ(tmp_path):
    first, again, other = (
        weights(trainer(tiny_recipe(epochs=1), seed).run(tmp_path / "state", Recorder()))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_another_recipe_cannot_resume(tmp_path):
    trainer(tiny_recipe(epochs=1)).run(tmp_path / "state", Recorder())
    with pytest.raises(TrainingError, match="belongs to a run with recipe"):
        trainer(tiny_recipe(epochs=2)).resume(tmp_path / "state")
    with pytest.raises(TrainingError, match="seed 0"):
        trainer(tiny_recipe(epochs=1), seed=3).resume(tmp_path / "state")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_state(tmp_path):
    state = tmp_path / "state"
    broken = trainer(tiny_recipe("fast"))
    broken.run(state, Recorder())
    kept = state.read_bytes()
    broken.recipe = tiny_recipe("fast", epochs=4)
    broken.network.head.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss became nan in epoch 4"):
        broken.run(state, Recorder())
    assert state.read_bytes() == kept


def test_fewer_pictures_than_a_batch_are_refused():
    with pytest.raises(TrainingError, match="320 training pictures"):
        trainer(tiny_recipe(batch_size=1000))
