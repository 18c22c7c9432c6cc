"""What is made of a trained network: temperature, test figures, checkpoint and picture."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

import flatfold
from flatfold.contract.card import Card
from training import checkpoint
from training.evaluate import PICTURES_AT_ONCE, ask, summarise
from training.loop import MEAN, STD
from training.memory import pictures_at_once
from training.predictor import network_predictor
from training.report import Results, write_report
from training.temperature import fit_temperature

if TYPE_CHECKING:
    from pathlib import Path

    from training.data import Pictures
    from training.evaluate import Evaluation
    from training.loop import Trainer
    from training.network import FlatNet

MODEL_FILE, REPORT_FILE = "model.safetensors", "report.png"


def conclude(
    trainer: Trainer, network: FlatNet, test: Pictures, *, name: str, output: Path
) -> Evaluation:
    """Calibrate and test `network` in float32, write its checkpoint, then the picture of the run.

    Args:
        trainer: the finished run.
        network: what it trained.
        test: the test pictures, used for nothing but the figures.
        name: the model's short name.
        output: the run's folder.

    Returns:
        The test figures.

    Raises:
        FlatfoldError: the network cannot be calibrated, or a file cannot be written.
    """
    card = Card(
        name=name,
        labels=test.names,
        height=trainer.recipe.network.image_size,
        width=trainer.recipe.network.image_size,
        architecture=trainer.recipe.network.name,
        mean=MEAN,
        std=STD,
        provenance=_provenance(trainer),
    )
    network.eval()
    card = replace(card, temperature=_temperature(trainer, network, card))
    predictor = network_predictor(network, card, trainer.compute.device)
    with tqdm(desc="testing", total=len(test), unit="img", disable=None) as bar:
        answers = ask(predictor, test, progress=bar.update)
    measured = summarise(answers, card.labels)
    card = replace(card, accuracy=_figures(measured))
    checkpoint.save(output / MODEL_FILE, network, card)
    title = (
        f"{card.name}: {card.architecture}, {trainer.recipe.preset}, test {measured.accuracy:.2%}"
    )
    results = Results(title, trainer.history, answers, test.images, card.labels)
    write_report(output / REPORT_FILE, results)
    return measured


def is_concluded(output: Path, state_path: Path) -> bool:
    """Return whether the model in `output` is that of the run whose last state is `state_path`.

    A conclusion that failed leaves no model, or one of an earlier run, older than the state.
    """
    model = output / MODEL_FILE
    return model.exists() and model.stat().st_mtime_ns >= state_path.stat().st_mtime_ns


def _temperature(trainer: Trainer, network: FlatNet, card: Card) -> float:
    """Fit the temperature on the pictures that were held out of training."""
    predict = network_predictor(network, card, trainer.compute.device).predict
    images = trainer.holdout.images.cpu().numpy()
    size = pictures_at_once(PICTURES_AT_ONCE, *images.shape[1:3])
    batches = np.array_split(images, -(-len(images) // size))
    logits = np.concatenate([predict(batch)[0] for batch in batches])
    return fit_temperature(logits, trainer.holdout.labels.cpu().numpy())


def _figures(measured: Evaluation) -> dict[str, Any]:
    figures = {
        "test_top1": measured.accuracy,
        "test_top1_tta": measured.accuracy_tta,
        "test_ece": measured.ece,
        "test_log_loss": measured.log_loss,
    }
    rounded = {key: round(value, 6) for key, value in figures.items() if value is not None}
    return rounded | {"test_images": measured.images}


def command(trainer: Trainer) -> str:
    """Return the command that trains this again, as the card records it.

    It names all that the result depends on but the folder of pictures, "flatfold train --preset
    fast --epochs 6 ...", behind torchrun where several processes train.
    """
    recipe = trainer.recipe
    flags = {
        "preset": recipe.preset,
        "epochs": recipe.epochs,
        "batch-size": recipe.batch_size,
        "image-size": recipe.network.image_size,
        "seed": trainer.seed,
        "precision": trainer.compute.precision,
    }
    words = [f"--{name} {value}" for name, value in flags.items()]
    switches = {
        "branches": recipe.network.branches,
        "compile": trainer.compute.compiled,
        "sync-batch-norm": trainer.ranks.sync_norms,
    }
    words += [f"--{name}" for name, on in switches.items() if on]
    processes = trainer.ranks.size
    launcher = f"torchrun --nproc-per-node {processes} -m " if processes > 1 else ""
    return " ".join([f"{launcher}flatfold train", *words])


def _provenance(trainer: Trainer) -> dict[str, Any]:
    return {
        "command": command(trainer),
        "recipe": trainer.recipe.to_dict(),
        "seed": trainer.seed,
        "training_seconds": round(sum(record["seconds"] for record in trainer.history), 1),
        "precision": trainer.compute.precision,
        "flatfold": flatfold.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
