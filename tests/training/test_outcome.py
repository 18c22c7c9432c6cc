import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flatfold.cli import build_parser
from tests.training.small import TINY, Recorder, shades, tiny_recipe
from training import checkpoint
from training.data import Pictures
from training.distributed import Ranks
from training.loop import Trainer
from training.outcome import MODEL_FILE, REPORT_FILE, command, conclude, is_concluded
from training.precision import choose_compute
from training.predictor import load_predictor
from training.temperature import fit_temperature

NAMES = ("black", "dark", "light", "white")


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    torch.set_num_threads(1)
    compute = choose_compute("cpu", "fp32")
    recipe = tiny_recipe(network=replace(TINY, classes=len(NAMES), logit_scale=1 / 9), epochs=6)
    run = Trainer(recipe, shades(160), shades(64, seed=1), seed=3, compute=compute)
    run.run(tmp_path_factory.mktemp("run") / "state.safetensors", Recorder())
    return run


def unseen(*, shifted: int = 0) -> Pictures:
    """Pictures as in training; `shifted` labels make every right answer a wrong one."""
    some = shades(40, seed=2)
    return Pictures(some.images.numpy(), (some.labels.numpy() + shifted) % len(NAMES), NAMES)


@pytest.fixture(scope="module")
def runs(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same network concluded twice, with test pictures whose labels are right and wrong."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("right", "wrong")}
    for shifted, folder in enumerate(folders.values()):
        test = unseen(shifted=shifted)
        conclude(trainer, trainer.network, test, name="shades", output=folder)
    return folders


def test_the_temperature_is_that_of_the_held_out_pictures(
    trainer: Trainer, runs: dict[str, Path]
) -> None:
    predictor = load_predictor(runs["right"] / MODEL_FILE, "cpu")
    logits, _ = predictor.predict(trainer.holdout.images.numpy())
    wanted = fit_temperature(logits, trainer.holdout.labels.numpy())
    assert predictor.card.temperature == pytest.approx(wanted, rel=1e-4)


def test_the_test_pictures_decide_nothing_but_the_figures(runs: dict[str, Path]) -> None:
    right, wrong = (checkpoint.load(folder / MODEL_FILE) for folder in runs.values())
    assert right.card.accuracy["test_top1"] > wrong.card.accuracy["test_top1"]
    assert replace(right.card, accuracy={}) == replace(wrong.card, accuracy={})
    for name, tensor in right.network.state_dict().items():
        assert torch.equal(tensor, wrong.network.state_dict()[name]), name


def test_the_card_tells_how_the_model_came_to_be(runs: dict[str, Path]) -> None:
    card = checkpoint.load(runs["right"] / MODEL_FILE).card
    assert (runs["right"] / REPORT_FILE).is_file()
    assert (card.labels, card.accuracy["test_images"]) == (NAMES, 40)
    assert card.provenance["seed"] == 3
    assert "--preset best" in card.provenance["command"]
    assert "--seed 3" in card.provenance["command"]
    assert str(runs["right"].parent) not in card.to_json()


def test_a_model_older_than_its_state_is_of_another_run(tmp_path: Path) -> None:
    state, model = tmp_path / "state.safetensors", tmp_path / MODEL_FILE
    state.touch()
    assert not is_concluded(tmp_path, state)
    for model_second, wanted in ((1, False), (2, True), (3, True)):
        model.touch()
        os.utime(state, (2, 2))
        os.utime(model, (model_second, model_second))
        assert is_concluded(tmp_path, state) == wanted


def recorded(**changed: Any) -> str:
    compute = replace(choose_compute("cpu", "fp32"), **changed)
    recipe = tiny_recipe("fast")
    return command(Trainer(recipe, shades(320), shades(64), seed=7, compute=compute))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("ranks", [Ranks(), Ranks(0, 2), Ranks(0, 2, sync_norms=True)])
def test_the_command_holds_what_the_result_depends_on(compiled: bool, ranks: Ranks) -> None:
    launcher, _, rest = recorded(compiled=compiled, ranks=ranks).rpartition("flatfold train ")
    assert launcher == ("torchrun --nproc-per-node 2 -m " if ranks.size == 2 else "")
    args = build_parser("train").parse_args(["train", *rest.split()])
    assert (args.preset, args.seed, args.precision) == ("fast", 7, "fp32")
    assert (args.compile, args.sync_batch_norm) == (compiled, ranks.sync_norms)
