"""One call of `flatfold train`: pictures in, training, checkpoint and picture of the run out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from flatfold.contract.errors import FlatfoldError, UsageError
from training import state
from training.data import SIDE
from training.datasets import is_cifar10, load_datasets
from training.distributed import joined, local_device
from training.loop import Split, Trainer, TrainingError
from training.memory import keep_freed_pages
from training.outcome import MODEL_FILE, conclude
from training.precision import choose_compute
from training.progress import Several, build_observer
from training.recipe import preset

if TYPE_CHECKING:
    import argparse

    from training.data import Pictures
    from training.distributed import Ranks
    from training.evaluate import Evaluation
    from training.loop import Observer
    from training.recipe import Recipe

STATE_FILE = "state.safetensors"
HELD_OUT_SHARE = 10  # at most a tenth of the training pictures is held out for the temperature
LARGEST_SEED = 2**32 - 1  # the loop makes each epoch's own seed from it, which has 64 bits
STEPS_PER_EPOCH = 20  # at least, so that a few hundred pictures of your own still teach something
SMALLEST_BATCH = 16  # fewer pictures make batch statistics too noisy


def run_session(args: argparse.Namespace) -> int:
    """Do what `flatfold train` was asked to; return the exit code."""
    recipe = _recipe(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_pages()
    compute = choose_compute(local_device(args.device), args.precision, compiled=args.compile)
    state_path = _state_path(args.output, resume=args.resume)
    pictures, test = load_datasets(args.data_dir, size=args.image_size)
    recipe = fit_recipe(recipe, pictures, batch_size=args.batch_size)
    train, holdout = split(pictures, recipe.holdout, args.seed)
    with joined(compute.device, sync_norms=args.sync_batch_norm) as ranks:
        together = replace(compute, ranks=ranks)
        trainer = Trainer(recipe, train, holdout, seed=args.seed, compute=together)
        if args.resume and state_path.exists():
            trainer.resume(state_path)
        _check_same_epoch(trainer, ranks)
        network = trainer.run(state_path, _observer(trainer, args.output))
        if ranks.first:
            measured = conclude(trainer, network, test, name=_name(args), output=args.output)
            print(_closing_words(args.output, measured))  # noqa: T201 # a command's words
    return 0


def _check_same_epoch(trainer: Trainer, ranks: Ranks) -> None:
    """Raise a TrainingError where only some processes found the state to resume from."""
    (total,) = ranks.total(trainer.next_epoch)
    if total != ranks.size * trainer.next_epoch:
        raise TrainingError(
            "the processes would start at different epochs: every host must see the same --output"
        )


def _observer(trainer: Trainer, output: Path) -> Observer:
    """Return the observer of the first process; the others are silent."""
    if not trainer.ranks.first:
        return Several([])
    if trainer.next_epoch:
        print(f"resuming after epoch {trainer.next_epoch} of {trainer.recipe.epochs}")  # noqa: T201 # a command's words
    return build_observer(
        output,
        history=trainer.history,
        epochs=trainer.recipe.epochs,
        steps_per_epoch=trainer.steps_per_epoch,
        batch_size=trainer.recipe.batch_size,
    )


def _closing_words(output: Path, measured: Evaluation) -> str:
    return (
        f"wrote {output / MODEL_FILE}: {measured.accuracy:.2%} of {measured.images} test pictures, "
        f"{measured.accuracy_tta or 0:.2%} with test-time augmentation"
    )


def _recipe(args: argparse.Namespace) -> Recipe:
    """Return the preset with the flags' changes, after checking every number.

    Raises:
        UsageError: a number is out of range, or the preset is unknown.
    """
    for key, smallest in (("epochs", 1), ("batch_size", 1), ("threads", 1), ("seed", 0)):
        value = getattr(args, key)
        if value is not None and value < smallest:
            flag = key.replace("_", "-")
            raise UsageError(f"--{flag} must be at least {smallest}, got {value}")
    if args.seed > LARGEST_SEED:
        raise UsageError(f"--seed must be at most {LARGEST_SEED}, got {args.seed}")
    recipe = preset(args.preset)
    network = replace(recipe.network, branches=args.branches or recipe.network.branches)
    return replace(recipe, epochs=args.epochs or recipe.epochs, network=network)


def fit_recipe(recipe: Recipe, pictures: Pictures, *, batch_size: int | None = None) -> Recipe:
    """Return `recipe` with the classes and size of these training pictures.

    Augmentation grows with the size. For few pictures the held-out share and the batch (unless
    `batch_size` was asked for) get smaller. For CIFAR-10 nothing changes.
    """
    holdout = min(recipe.holdout, max(1, len(pictures) // HELD_OUT_SHARE))
    kept = len(pictures) - holdout
    few = min(kept, max(SMALLEST_BATCH, kept // STEPS_PER_EPOCH))
    size = pictures.images.shape[1]
    return replace(
        recipe,
        network=replace(recipe.network, classes=len(pictures.names), image_size=size),
        holdout=holdout,
        batch_size=batch_size or min(recipe.batch_size, few),
        translate=round(recipe.translate * size / SIDE),
        cutout=round(recipe.cutout * size / SIDE),
    )


def _state_path(output: Path, *, resume: bool) -> Path:
    """Make the run's folder and return its state file's path.

    Raises:
        UsageError: an unfinished run would be overwritten.
        FlatfoldError: the folder cannot be made.
    """
    path = output / STATE_FILE
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlatfoldError(f"cannot create {output}: {error.strerror}") from error
    if path.exists() and not resume:
        saved = state.read_progress(path)
        done, epochs = saved["next_epoch"], saved["recipe"]["epochs"]
        if done < epochs:
            raise UsageError(
                f"{output} holds an unfinished run, {done} of {epochs} epochs done: go on with "
                f"--resume, give another --output, or delete {path}"
            )
    return path


def _name(args: argparse.Namespace) -> str:
    """Return the model's name: cifar10, or what the folder of pictures is called."""
    if is_cifar10(args.data_dir):
        return "cifar10"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(args.data_dir).resolve().name) or "pictures"


def split(pictures: Pictures, holdout: int, seed: int) -> tuple[Split, Split]:
    """Return training pictures and `holdout` others, drawn by `seed`."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    kept, held = np.sort(order[holdout:]), np.sort(order[:holdout])

    def part(chosen: np.ndarray) -> Split:
        return Split(
            torch.from_numpy(pictures.images[chosen]), torch.from_numpy(pictures.labels[chosen])
        )

    return part(kept), part(held)
