"""One call of `flatfold train`: pictures in, training, checkpoint and picture of the run out."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from flatfold.contract.errors import FlatfoldError, UsageError
from flatfold.contract.files import remove_leftovers
from training import state
from training.copies import tell_copies
from training.datasets import check_apart, is_cifar10, load_datasets
from training.distributed import is_first, joined, local_device
from training.lock import check_free, held
from training.loop import Trainer, TrainingError
from training.memory import keep_freed_pages
from training.outcome import MODEL_FILE, REPORT_FILE, conclude, is_concluded
from training.precision import choose_compute
from training.progress import Several, build_observer
from training.recipe import preset
from training.sizing import fit_recipe
from training.split import hold_out

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from training.distributed import Ranks
    from training.evaluate import Evaluation
    from training.loop import Observer
    from training.recipe import Recipe

STATE_FILE = "state.safetensors"
WRITTEN = (STATE_FILE, MODEL_FILE, REPORT_FILE, "log.jsonl")  # in one piece, by renaming
# The smallest and the largest number of each flag.
RANGES = {
    "epochs": (1, 10**6),  # each has its share of the time left worked out beforehand
    "batch_size": (1, None),  # at most the training pictures, says the loop
    "threads": (1, 1024),  # OpenMP starts them all, and ends the process where it cannot
    "seed": (0, 2**32 - 1),  # the loop makes each epoch's own seed from it, which has 64 bits
}


def run_session(args: argparse.Namespace) -> int:
    """Do what `flatfold train` was asked to; return the exit code."""
    recipe = _recipe(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_pages()
    compute = choose_compute(local_device(args.device), args.precision, compiled=args.compile)
    state_path = args.output / STATE_FILE
    if is_first():
        check_free(args.output)
    if not args.resume:
        _check_finished(state_path)
    check_apart(args.output, args.data_dir)
    pictures, test = load_datasets(args.data_dir, size=args.image_size)
    for sentence in tell_copies(pictures, test) if is_first() else ():
        print(f"flatfold: warning: {sentence}", file=sys.stderr)  # noqa: T201 # a command's words
    recipe = fit_recipe(recipe, pictures, batch_size=args.batch_size)
    train, holdout = hold_out(pictures, recipe.holdout, args.seed)
    with joined(compute.device, sync_norms=args.sync_batch_norm) as ranks, ExitStack() as stack:
        together = replace(compute, ranks=ranks)
        trainer = Trainer(recipe, train, holdout, seed=args.seed, compute=together)
        if args.resume and state_path.exists():
            trainer.resume(state_path)
        _check_same_epoch(trainer, ranks)
        if ranks.first:
            stack.enter_context(_prepared(args.output, anew=not args.resume))
        network = trainer.run(state_path, _observer(trainer, args.output, resume=args.resume))
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


def _observer(trainer: Trainer, output: Path, *, resume: bool) -> Observer:
    """Return the observer of the first process; the others are silent."""
    if not trainer.ranks.first:
        return Several([])
    if trainer.next_epoch:
        print(f"resuming after epoch {trainer.next_epoch} of {trainer.recipe.epochs}")  # noqa: T201 # a command's words
    elif resume:
        print(f"no state in {output}: starting anew")  # noqa: T201 # a command's words
    return build_observer(
        output,
        history=trainer.history,
        work=[trainer.recipe.side(epoch) ** 2 for epoch in range(trainer.recipe.epochs)],
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
    for key, (smallest, largest) in RANGES.items():
        value, flag = getattr(args, key), key.replace("_", "-")
        if value is not None and value < smallest:
            raise UsageError(f"--{flag} must be at least {smallest}, got {value}")
        if value is not None and largest is not None and value > largest:
            raise UsageError(f"--{flag} must be at most {largest}, got {value}")
    recipe = preset(args.preset)
    network = replace(recipe.network, branches=args.branches or recipe.network.branches)
    return replace(recipe, epochs=args.epochs or recipe.epochs, network=network)


def _check_finished(path: Path) -> None:
    """Raise a UsageError where `path` is the state of a run with epochs or its model to come."""
    if not path.exists():
        return
    saved = state.read_progress(path)
    done, epochs = saved["next_epoch"], saved["recipe"]["epochs"]
    if done < epochs or not is_concluded(path.parent, path):
        unwritten = "" if done < epochs else f" but no {MODEL_FILE} written since"
        raise UsageError(
            f"{path.parent} holds an unfinished run, {done} of {epochs} epochs done{unwritten}: "
            f"go on with --resume, give another --output, or delete {path}"
        )


@contextmanager
def _prepared(output: Path, *, anew: bool) -> Iterator[None]:
    """Keep the run's folder to this run, made or rid of what a killed run left half written in it.

    A run that begins `anew` removes a finished one's state: broken off in its first epoch, it would
    else be resumed from there.

    Raises:
        FlatfoldError: the folder cannot be made or written.
        UsageError: another run has it.
    """
    try:
        str(output).encode()
    except UnicodeEncodeError as error:  # safetensors and TensorBoard take no other
        raise FlatfoldError(f"cannot create {output}: --output must be UTF-8: {error}") from error
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlatfoldError(f"cannot create {output}: {error.strerror}") from error
    with held(output):
        for name in WRITTEN:
            remove_leftovers(output / name)
        if anew:
            _remove(output / STATE_FILE)
        yield


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FlatfoldError(f"cannot remove {path}: {error.strerror}") from error


def _name(args: argparse.Namespace) -> str:
    """Return the model's name: cifar10, or what the folder of pictures is called."""
    if is_cifar10(args.data_dir):
        return "cifar10"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(args.data_dir).resolve().name)
    return plain.strip("-") or "pictures"
