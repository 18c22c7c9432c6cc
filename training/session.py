"""One call of `flatfold train`: data in, training, temperature, test, checkpoint out."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import flatfold
from flatfold.contract.card import Card
from flatfold.contract.errors import FlatfoldError, UsageError
from training import checkpoint
from training.data import load_cifar10
from training.loop import MEAN, STD, Split, Trainer, score
from training.precision import choose_compute
from training.recipe import preset
from training.temperature import fit_temperature

if TYPE_CHECKING:
    import argparse

    from training.data import Pictures
    from training.recipe import Recipe

STATE_FILE, MODEL_FILE, LOG_FILE = "state.safetensors", "model.safetensors", "log.jsonl"


def run_session(args: argparse.Namespace) -> int:
    """Do what `flatfold train` was asked to; return the exit code."""
    recipe = _recipe(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    compute = choose_compute(args.device, args.precision)
    pictures = load_cifar10(args.data_dir, train=True)
    train, holdout = split(pictures, recipe.holdout, args.seed)
    trainer = Trainer(recipe, train, holdout, seed=args.seed, compute=compute)
    output = args.output
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlatfoldError(f"cannot create {output}: {error.strerror}") from error
    state_path = output / STATE_FILE
    if args.resume and state_path.exists():
        trainer.resume(state_path)
        print(f"resuming after epoch {trainer.next_epoch} of {recipe.epochs}")  # noqa: T201
    network = trainer.run(state_path, LineObserver(output / LOG_FILE))
    card = _card(args, trainer, pictures)
    checkpoint.save(output / MODEL_FILE, network, card)
    print(f"wrote {output / MODEL_FILE}: {json.dumps(card.accuracy)}")  # noqa: T201
    return 0


def _recipe(args: argparse.Namespace) -> Recipe:
    recipe = preset(args.preset)
    for key in ("epochs", "batch_size"):
        value = getattr(args, key)
        if value is not None:
            if value < 1:
                raise UsageError(f"--{key.replace('_', '-')} must be at least 1, got {value}")
            recipe = replace(recipe, **{key: value})
    return recipe


def split(pictures: Pictures, holdout: int, seed: int) -> tuple[Split, Split]:
    """Return training pictures and `holdout` others, drawn by `seed`."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    kept, held = np.sort(order[holdout:]), np.sort(order[:holdout])

    def part(chosen: np.ndarray) -> Split:
        return Split(
            torch.from_numpy(pictures.images[chosen]), torch.from_numpy(pictures.labels[chosen])
        )

    return part(kept), part(held)


class LineObserver:
    """Prints a line an epoch, and appends it to a JSON-lines file."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def batch(self, epoch: int, step: int, loss: float, accuracy: float) -> None:
        """Ignore single batches."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Print and write the record."""
        line = json.dumps(record)
        print(line, flush=True)  # noqa: T201
        with self._log.open("a") as file:
            file.write(line + "\n")


def _card(args: argparse.Namespace, trainer: Trainer, pictures: Pictures) -> Card:
    """Return the card: temperature from the held-out pictures, accuracy from the test pictures."""
    held = trainer.logits(trainer.holdout.images).cpu().numpy()
    temperature = fit_temperature(held, trainer.holdout.labels.cpu().numpy())
    test = load_cifar10(args.data_dir, train=False)
    logits = trainer.logits(torch.from_numpy(test.images).to(trainer.compute.device)).cpu()
    _, accuracy = score(logits, torch.from_numpy(test.labels))
    size = trainer.recipe.network.image_size
    return Card(
        name="cifar10",
        labels=pictures.names,
        height=size,
        width=size,
        architecture=trainer.recipe.network.name,
        temperature=temperature,
        mean=MEAN,
        std=STD,
        accuracy={"test_top1": round(accuracy, 6), "test_images": len(test)},
        provenance={
            "command": shlex.join(["flatfold", *sys.argv[1:]]),
            "recipe": trainer.recipe.to_dict(),
            "seed": args.seed,
            "training_seconds": round(sum(record["seconds"] for record in trainer.history), 1),
            "precision": trainer.compute.precision,
            "flatfold": flatfold.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
