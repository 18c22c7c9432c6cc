"""The training loop: one epoch after the other, each ending in a state that can be resumed."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from flatfold.contract.errors import FlatfoldError
from training import state
from training.augment import augment, cutout, normalise, shrink
from training.distributed import synchronise_norms
from training.initialisation import initialise, whiten
from training.lookahead import EVERY, Lookahead
from training.memory import pictures_at_once
from training.network import FlatNet, place
from training.optimisers import build_optimisers, set_learning_rates, set_whitening_bias
from training.recipe import Recipe
from training.selection import Proxy, proxy_shape
from training.split import Split
from training.symmetry import MirrorSymmetry

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from training.precision import Compute

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training pictures
WHITENING_PICTURES = 5000
HELD_OUT_AT_ONCE = 1000  # of CIFAR-10's size
SHOWN = 5  # differences that one message names


class TrainingError(FlatfoldError):
    """Training cannot go on; the state of the last whole epoch, if any, is kept."""


class Observer(Protocol):
    """Who is told how the run goes."""

    def batch(self, epoch: int, step: int, loss: float, accuracy: float) -> None:
        """Hear of one step: the mean loss and the share of right answers in its batch."""

    def epoch(self, record: dict[str, Any]) -> None:
        """Hear of one epoch: its number, seconds, training and held-out loss and accuracy."""


class Trainer:
    """One run of a recipe on given pictures.

    Everything random comes from generators seeded by (seed, epoch) on the CPU, so that a run that
    was broken off and resumed at an epoch's end does the same as an unbroken one.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: Split,
        holdout: Split,
        *,
        seed: int,
        compute: Compute,
    ) -> None:
        if len(train) < recipe.batch_size:
            raise TrainingError(
                f"{len(train)} training pictures do not fill one batch of {recipe.batch_size}; "
                "give more pictures or a smaller --batch-size"
            )
        _check_batch(recipe, compute.ranks.size)
        device = compute.device
        self.recipe, self.seed, self.compute, self.ranks = recipe, seed, compute, compute.ranks
        self.identity = {
            "recipe": state.plain(recipe.to_dict()),
            "seed": seed,
            "pictures": len(train),
            "pictures_digest": train.digest(),
            "classes": {f"class {label}": name for label, name in enumerate(train.names)},
            "precision": compute.precision,
        }
        self.train_set = replace(
            train, images=train.images.to(device), labels=train.labels.to(device)
        )
        self.holdout = Split(holdout.images.to(device), holdout.labels.to(device))
        self.steps_per_epoch = len(train) // recipe.batch_size
        self.history: list[dict[str, Any]] = []
        self.next_epoch = 0
        generator = torch.Generator().manual_seed(seed)
        sample = self.train_set.sample(WHITENING_PICTURES, seed)
        whitening = partial(whiten, images=sample, mean=MEAN, std=STD)
        self.network = FlatNet(recipe.network)
        if self.ranks.sync_norms:
            synchronise_norms(self.network)
        initialise(self.network, generator, dirac=recipe.dirac)
        place(self.network, device)
        if recipe.whitening:
            whitening(self.network)
        self.symmetry = MirrorSymmetry(self.network) if recipe.mirror else None
        if self.symmetry is not None:
            self.symmetry.impose()
        self.optimisers = build_optimisers(self.network, recipe)
        # A run too short for one pull would end with the slow weights that it started from.
        pulls = recipe.epochs * self.steps_per_epoch // EVERY
        self.lookahead = Lookahead(self.network) if recipe.lookahead and pulls else None
        hard = recipe.hardest < 1
        self.proxy = Proxy(recipe, whitening, generator, device) if hard else None
        # Alternating flip (airbench): each picture starts mirrored or not, and turns every epoch.
        self.flipped = (torch.rand(len(train), generator=generator) < 0.5).to(device)

    def run(self, state_path: Path, observer: Observer) -> FlatNet:
        """Train the epochs that are left, saving the state after each; return the network.

        Raises:
            TrainingError: the training or the held-out loss became NaN or infinite.
        """
        for epoch in range(self.next_epoch, self.recipe.epochs):
            started = time.perf_counter()
            loss, accuracy = self._epoch(epoch, observer)
            if self.lookahead is not None and epoch + 1 == self.recipe.epochs:
                self.lookahead.finish()
            seconds = time.perf_counter() - started
            held_loss, held_accuracy = score(self.logits(self.holdout.images), self.holdout.labels)
            # The last step can ruin the weights after the last training loss was measured.
            self._check_finite("held-out loss", held_loss, epoch)
            record = {
                "epoch": epoch + 1,
                "epochs": self.recipe.epochs,
                "seconds": round(seconds, 3),
                "images_per_second": round(
                    self.steps_per_epoch * self.recipe.batch_size / seconds, 1
                ),
                "train_loss": loss,
                "train_accuracy": accuracy,
                "holdout_loss": held_loss,
                "holdout_accuracy": held_accuracy,
            }
            self.history.append(record)
            self.next_epoch = epoch + 1
            if self.ranks.first:
                state.save(state_path, self._parts(), self.progress())
            observer.epoch(record)
        return self.network

    def resume(self, state_path: Path) -> None:
        """Go on from a state saved by a run of the same recipe, seed, pictures and precision.

        A recipe saved before it had some field counts as one with that field's default; what a
        state from an older version does not tell counts as the same.

        Raises:
            CheckpointError: the file is not a state, or one of another network.
            TrainingError: it belongs to another run, or holds weights that became NaN.
        """
        saved = state.read_progress(state_path)
        with contextlib.suppress(KeyError, TypeError):  # no recipe of today: told as another one
            saved["recipe"] = state.plain(Recipe.from_dict(saved["recipe"]).to_dict())
        then = {key: saved.get(key, value) for key, value in self.identity.items()}
        if others := state.differences(then, self.identity):
            more = f"; and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            raise TrainingError(
                f"{state_path} belongs to another run: {'; '.join(others[:SHOWN])}{more}; "
                "give the same settings and pictures, or another --output"
            )
        for record in saved["history"]:  # older versions saved what had become NaN
            self._check_finite("held-out loss", record["holdout_loss"], record["epoch"] - 1)
        state.restore(state_path, self._parts())
        self.history = saved["history"]
        self.next_epoch = saved["next_epoch"]

    def progress(self) -> dict[str, Any]:
        """Return where the run stands, in JSON types."""
        return {**self.identity, "next_epoch": self.next_epoch, "history": self.history}

    def _parts(self) -> state.Parts:
        modules: dict[str, torch.nn.Module] = {"network": self.network}
        optimisers = {f"optimiser{i}": optimiser for i, optimiser in enumerate(self.optimisers)}
        if self.proxy is not None:
            modules["proxy"] = self.proxy.network
            optimisers |= {f"proxy_optimiser{i}": o for i, o in enumerate(self.proxy.optimisers)}
        return state.Parts(modules, optimisers, self.lookahead)

    def _epoch(self, epoch: int, observer: Observer) -> tuple[float, float]:
        """Train one epoch; return the mean loss and accuracy on what was learnt from."""
        generator = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + epoch)
        order = torch.randperm(len(self.train_set), generator=generator).to(self.compute.device)
        self.network.train()
        set_whitening_bias(self.network, self.recipe, epoch)
        model = self.compute.prepare(self.ranks.wrap(self.network))
        losses, rights, seen = 0.0, 0, 0
        for index in range(self.steps_per_epoch):
            step = epoch * self.steps_per_epoch + index
            picked = order[index * self.recipe.batch_size : (index + 1) * self.recipe.batch_size]
            images, labels = self._batch(picked, epoch, generator)
            if self.proxy is not None:
                hard = self.proxy.hardest(
                    images, labels, step, self.steps_per_epoch, autocast=self.compute.autocast
                )
                images, labels = images[hard], labels[hard]
            loss, right = self._step(model, images, labels, step)
            losses, rights, seen = losses + loss, rights + right, seen + len(labels)
            observer.batch(epoch, index, loss / len(labels), right / len(labels))
        return losses / seen, rights / seen

    def _batch(
        self, picked: Tensor, epoch: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if self.recipe.flip == "random":
            flipped = (torch.rand(len(picked), generator=generator) < 0.5).to(picked.device)
        else:
            flipped = self.flipped[picked] ^ bool(epoch % 2)
        images = augment(
            self.train_set.images[picked], flipped, generator, translate=self.recipe.translate
        )
        images = cutout(normalise(images, MEAN, STD), generator, size=self.recipe.cutout)
        images = shrink(images, self.recipe.side(epoch))
        return images, self.train_set.labels[picked]

    def _step(
        self, model: nn.Module, images: Tensor, labels: Tensor, step: int
    ) -> tuple[float, int]:
        """Learn from one batch; return its summed loss and the number of right answers."""
        images, labels = self.ranks.share(images), self.ranks.share(labels)
        with self.compute.autocast:
            logits = model(images)
        loss = functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.recipe.label_smoothing, reduction="sum"
        )
        right = (logits.argmax(1) == labels).sum()
        total, rights = self.ranks.total(loss.item(), right.item())
        self._check_finite("loss", total, step // self.steps_per_epoch)
        # The processes' gradients are averaged; times their number it is the sum over the batch.
        torch.autograd.backward(loss * self.ranks.size)
        if self.symmetry is not None:
            self.symmetry.project_gradients()
        set_learning_rates(self.optimisers, self.recipe, step, self.steps_per_epoch)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if self.lookahead is not None and (step + 1) % EVERY == 0:
            self.lookahead.pull((step + 1) / (self.recipe.epochs * self.steps_per_epoch))
        return total, int(rights)

    def _check_finite(self, what: str, loss: float, epoch: int) -> None:
        """Raise a TrainingError where `loss`, in the epoch that is numbered from 0, is not."""
        if math.isfinite(loss):
            return
        done = self.next_epoch
        kept = f"the state after epoch {done} is kept" if done else "no epoch was finished"
        raise TrainingError(
            f"the {what} became {loss} in epoch {epoch + 1}; {kept}: look for broken pictures, or "
            "start anew with another --batch-size or with --precision fp32"
        )

    def logits(self, images: Tensor) -> Tensor:
        """Return float32 logits (n, classes) of uint8 pictures (n, h, w, 3), in eval mode."""
        self.network.eval()
        batch_size = pictures_at_once(HELD_OUT_AT_ONCE, *images.shape[1:3])
        with torch.inference_mode(), self.compute.autocast:
            return torch.cat(
                [
                    self.network(normalise(part, MEAN, STD)).float()
                    for part in torch.split(images, batch_size)
                ]
            )


def _check_batch(recipe: Recipe, processes: int) -> None:
    """Raise a TrainingError where a batch norm would have a single value for a channel."""
    share = recipe.learnt_from(recipe.batch_size) // processes
    smallest = replace(recipe, network=replace(recipe.network, image_size=recipe.side(0)))
    values = share * smallest.network.last_side**2
    if recipe.hardest < 1:
        values = min(values, recipe.batch_size * proxy_shape(smallest).last_side ** 2)
    if values < 2:
        raise TrainingError(
            f"a batch of {recipe.batch_size} leaves the last batch norm fewer than two values a "
            "channel: give more pictures, a larger --batch-size or a larger --image-size"
        )


def score(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy of `logits` (n, classes); 0 and 0 for n = 0."""
    if len(labels) == 0:
        return 0.0, 0.0
    loss = functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(1) == labels).float().mean().item()
