from dataclasses import replace

import pytest
import torch

from training import state as states
from training.checkpoint import CheckpointError, write_tensors
from training.initialisation import whiten
from training.loop import MEAN, STD, Trainer, TrainingError
from training.precision import choose_compute
from training.split import Split

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


def colours(count, seed=0):
    """Red, green, blue and white pictures with noise: shades take a tiny network much longer."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    images = torch.randint(0, 60, (count, 12, 12, 3), generator=generator)
    images += 190 * torch.cat((torch.eye(3), torch.ones(1, 3)))[labels][:, None, None].long()
    return Split(images.to(torch.uint8), labels)


@pytest.mark.parametrize("base", ["fast", "best"])
def test_learns_what_can_be_learnt(tmp_path, base):
    recorder = Recorder()
    run = Trainer(
        tiny_recipe(base, epochs=8), colours(320), colours(64, seed=9), seed=0, compute=CPU
    )
    run.run(tmp_path / "state.safetensors", recorder)
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


def test_progressive_epochs_learn_from_smaller_pictures(tmp_path):
    run = trainer(tiny_recipe("fast", epochs=2, progressive=0.5))
    sides = []
    run.network.whiten.register_forward_pre_hook(
        lambda module, inputs: sides.append((module.training, inputs[0].shape[-1]))
    )
    run.run(tmp_path / "state.safetensors", Recorder())
    assert [side for learning, side in sides if learning] == [9] * 10 + [12] * 10
    assert {side for learning, side in sides if not learning} == {12}


def test_seeds_repeat_and_differ(tmp_path):
    first, again, other = (
        weights(trainer(tiny_recipe(epochs=1), seed).run(tmp_path / "state", Recorder()))
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_another_recipe_cannot_resume(tmp_path):
    trainer(tiny_recipe(epochs=1)).run(tmp_path / "state", Recorder())
    with pytest.raises(TrainingError, match="belongs to another run: epochs 1, not 2; give the"):
        trainer(tiny_recipe(epochs=2)).resume(tmp_path / "state")
    with pytest.raises(TrainingError, match="seed 0"):
        trainer(tiny_recipe(epochs=1), seed=3).resume(tmp_path / "state")


def test_other_pictures_names_or_precision_cannot_resume(tmp_path):
    path, recipe, pictures = tmp_path / "state", tiny_recipe(epochs=1), shades(64)
    pictures = replace(pictures, names=("ash", "birch", "caf\udce9", "$"))

    def run(pictures, precision="fp32"):
        compute = choose_compute("cpu", precision)
        return Trainer(recipe, pictures, shades(8), seed=0, compute=compute)

    run(pictures).run(path, Recorder())
    run(pictures).resume(path)
    swapped = replace(pictures, labels=3 - pictures.labels)
    with pytest.raises(TrainingError, match=r"run: pictures_digest '\w{16}', not '\w{16}'; give"):
        run(swapped).resume(path)
    with pytest.raises(TrainingError, match="pictures_digest"):
        run(replace(pictures, images=255 - pictures.images)).resume(path)
    renamed = replace(pictures, names=("ash", "beech", "oak", "$"))
    with pytest.raises(
        TrainingError, match=r"run: class 1 'birch', not 'beech'; class 2 'caf\\udc"
    ):
        run(renamed).resume(path)
    with pytest.raises(TrainingError, match="run: precision 'fp32', not 'bf16'; give"):
        run(pictures, "bf16").resume(path)


def test_a_message_names_the_first_differences_and_counts_the_others(tmp_path):
    trainer(tiny_recipe("fast")).run(tmp_path / "state", Recorder())
    with pytest.raises(TrainingError) as raised:
        trainer(tiny_recipe("best")).resume(tmp_path / "state")
    assert "run: preset 'fast', not 'best'; logit_scale" in str(raised.value)
    assert "; and " in str(raised.value)
    assert len(str(raised.value)) < 500


def test_weights_that_became_nan_in_the_last_step_do_not_overwrite_the_state(tmp_path):
    path = tmp_path / "state"
    first = trainer(tiny_recipe("fast", head_lr=1e38, epochs=1, batch_size=320))
    told = Recorder()
    with pytest.raises(TrainingError, match="held-out loss became nan in epoch 1; no epoch was"):
        first.run(path, told)
    assert not path.exists()
    assert not told.records
    older = {"next_epoch": 1, "history": [{"epoch": 1, "holdout_loss": float("nan")}]}
    states.save(path, first._parts(), {**first.progress(), **older})
    with pytest.raises(TrainingError, match="held-out loss became nan in epoch 1"):
        trainer(first.recipe).resume(path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_state(tmp_path):
    state = tmp_path / "state"
    broken = trainer(tiny_recipe("fast"))
    broken.run(state, Recorder())
    kept = state.read_bytes()
    broken.recipe = tiny_recipe("fast", epochs=4)
    broken.network.head.weight.data.fill_(float("nan"))
    with pytest.raises(
        TrainingError, match="the loss became nan in epoch 4; the state after epoch 3"
    ):
        broken.run(state, Recorder())
    assert state.read_bytes() == kept


def test_fewer_pictures_than_a_batch_are_refused():
    with pytest.raises(TrainingError, match="320 training pictures"):
        trainer(tiny_recipe(batch_size=1000))


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_run_of_a_few_steps_keeps_what_it_learnt(tmp_path, steps):
    recipe = tiny_recipe("best", epochs=1, hardest=1.0)
    run = Trainer(recipe, shades(32 * steps), shades(8, seed=9), seed=0, compute=CPU)
    before = weights(run.network)
    after = weights(run.run(tmp_path / "state", Recorder()))
    for name in ("blocks.0.convs.0.weight", "blocks.0.norms.0.running_mean", "head.weight"):
        assert not torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("changes", [{"batch_size": 2}, {"batch_size": 3, "hardest": 0.1}])
def test_the_smallest_batches_learn_from_one_picture_at_least(tmp_path, changes):
    recorder = Recorder()
    recipe = tiny_recipe("best", epochs=1, **changes)
    Trainer(recipe, shades(6), shades(1), seed=0, compute=CPU).run(tmp_path / "state", recorder)
    assert 0 <= recorder.records[0]["train_accuracy"] <= 1


def test_a_batch_that_batch_norm_cannot_take_is_refused_at_once():
    with pytest.raises(TrainingError, match="a batch of 1 leaves the last batch norm fewer"):
        trainer(tiny_recipe("best", batch_size=1))


def test_no_picture_held_out_is_no_error_in_the_loop(tmp_path):
    recorder = Recorder()
    recipe = tiny_recipe(epochs=1)
    Trainer(recipe, shades(64), shades(0), seed=0, compute=CPU).run(tmp_path / "state", recorder)
    assert recorder.records[0]["holdout_accuracy"] == 0


def test_large_held_out_pictures_come_fewer_at_once():
    run, seen = trainer(tiny_recipe()), []
    run.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    assert run.logits(torch.zeros(3, 640, 640, 3, dtype=torch.uint8)).shape == (3, 10)
    assert run.logits(torch.zeros(1001, 12, 12, 3, dtype=torch.uint8)).shape == (1001, 10)
    assert seen == [2, 1, 1000, 1]


@pytest.mark.parametrize("base", ["fast", "best"])
def test_whitening_sees_all_classes_when_they_come_one_after_the_other(monkeypatch, base):
    monkeypatch.setattr("training.loop.WHITENING_PICTURES", 40)
    pictures = shades(320)
    order = pictures.labels.argsort()
    ordered = Split(pictures.images[order], pictures.labels[order])
    sample = ordered.sample(40, seed=5)
    run = Trainer(tiny_recipe(base), ordered, shades(8), seed=5, compute=CPU)
    for network in [run.network] + ([run.proxy.network] if run.proxy else []):
        found = network.whiten.weight.clone()
        whiten(network, sample, MEAN, STD)
        assert torch.equal(found, network.whiten.weight)


def test_random_flips_are_drawn_anew_each_epoch_and_alternating_ones_turn(tmp_path):
    pictures = shades(64)
    whole = torch.arange(64)
    mirrored = {}
    for flip in ("alternating", "random"):
        recipe = tiny_recipe("fast", flip=flip, translate=0, cutout=0, progressive=0.0)
        run = Trainer(recipe, pictures, shades(8), seed=0, compute=CPU)
        seen = []
        for epoch in (0, 1, 2):
            images, _ = run._batch(whole, epoch, torch.Generator().manual_seed(epoch))
            seen.append(images)
        mirrored[flip] = [torch.equal(seen[0][i], seen[2][i]) for i in range(64)]
        turned = [torch.equal(seen[0][i], seen[1][i].flip(-1)) for i in range(64)]
        assert all(turned) == (flip == "alternating")
    assert all(mirrored["alternating"])
    assert not all(mirrored["random"])


def test_a_state_from_before_a_field_was_added_is_resumed(tmp_path):
    path = tmp_path / "state"
    trainer(tiny_recipe(epochs=1)).run(path, Recorder())
    progress = states.read_progress(path)
    for field in ("flip", "dirac", "whitening"):
        del progress["recipe"][field]
    del progress["recipe"]["network"]["branches"]
    for key in ("pictures_digest", "classes", "precision"):
        del progress[key]
    again = trainer(tiny_recipe(epochs=1))
    states.save(path, again._parts(), progress)
    again.resume(path)
    assert again.next_epoch == 1
    progress["recipe"]["from the future"] = 1
    states.save(path, again._parts(), progress)
    with pytest.raises(TrainingError, match="from the future"):
        again.resume(path)


@pytest.mark.parametrize("damage", ["{", "[1]", '{"recipe": "x"}', '{"recipe": {"epochs": 1}}'])
def test_a_state_of_no_known_version_is_told(tmp_path, damage):
    path = tmp_path / "state"
    write_tensors(path, {}, {"format": states.FORMAT, "progress": damage})
    with pytest.raises(CheckpointError, match="state that this version does not read"):
        trainer(tiny_recipe(epochs=1)).resume(path)


def test_ingredients_can_be_left_out(tmp_path):
    recipe = tiny_recipe("best", epochs=1, dirac=False, whitening=False)
    run = Trainer(recipe, shades(64), shades(8), seed=0, compute=CPU)
    conv = run.network.blocks[1].convs[1]
    assert not torch.equal(conv.weight[:, :, 1, 1].round(), torch.eye(16))
    assert not torch.equal(run.network.whiten.weight[0], -run.network.whiten.weight[12])
