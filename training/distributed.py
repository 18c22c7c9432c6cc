"""Several processes, one run: torchrun starts the same command in each of them.

Every process draws the same batches in the same order and learns from its share of each, so that
the run does what a single process would do, within rounding, when the batch norms are shared too.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

# Its functions keep the default group of the time of the import for good, as an argument's default.
# PyTorch's optimisers import it: before there is a group, it keeps none.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from flatfold.contract.errors import FlatfoldError
from training.network import BatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.network import FlatNet


# So says gloo, with nothing but a RuntimeError, of a process that is gone.
_GONE = re.compile(r"connection (closed|reset) by peer|broken pipe", re.IGNORECASE)


class LostProcessError(FlatfoldError):
    """Another process of this run ended; what it said itself tells why."""


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is; by itself by default.

    Attributes:
        rank: this process's number.
        size: number of processes.
        sync_norms: batch statistics are those of the whole batch, not of each process's share.
    """

    rank: int = 0
    size: int = 1
    sync_norms: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's share of `batch`."""
        return batch if self.size == 1 else batch[self.rank :: self.size]

    def wrap(self, network: FlatNet) -> nn.Module:
        """Return `network` so that gradients are averaged over all processes.

        It is to be wrapped anew when another set of parameters is to be trained.
        """
        return network if self.size == 1 else DistributedDataParallel(network)

    def total(self, *values: float) -> tuple[float, ...]:
        """Return the sums of `values` over all processes."""
        if self.size == 1:
            return values
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(sums)
        return tuple(sums.tolist())


ALONE = Ranks()
# The others wait for the first while it tests and writes: with many pictures longer than PyTorch's
# half hour. A process that dies is noticed at once, by torchrun.
PATIENCE = timedelta(hours=12)


def local_device(name: str) -> str:
    """Return the device for `name`: under torchrun, each process takes a GPU of its own."""
    if dist.is_torchelastic_launched() and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


def is_first() -> bool:
    """Return what `Ranks.first` will be, before the processes have joined."""
    return not dist.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def joined(device: torch.device, *, sync_norms: bool) -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did, for the length of the block.

    All leave a block that ends well together: torchrun's agents wait five minutes for each other.
    The group ends with the block, and with it gloo's threads. One that outlived it could let go of
    the last tensor that it summed while Python shuts down, which aborts the process.

    Raises:
        LostProcessError: gloo finds another process gone.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), sync_norms)
        dist.barrier()
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # they hold what `wrap` returned
        if isinstance(error, RuntimeError) and _GONE.search(str(error)):
            raise LostProcessError(
                "another process of this run ended before this one; its own words say why"
            ) from error
        raise
    finally:
        gc.collect()  # a wrapped network holds the group as well
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_: torch.autograd.function.FunctionCtx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call] # PyTorch leaves it untyped
    return total


class SyncedBatchNorm(BatchNorm):
    """Batch norm over the whole batch of all processes, on any device.

    PyTorch's own SyncBatchNorm refuses to train on CPUs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (batch, channels, height, width) and update the running statistics."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = torch.tensor([float(values[:, 0].numel())], device=x.device)
        dist.all_reduce(count)
        mean = _sum(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _sum(centred.square().sum((0, 2, 3))) / count
        self._update(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(x.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        running_mean, running_var = self.running_mean, self.running_var
        if running_mean is None or running_var is None or self.momentum is None:
            raise TypeError("a batch norm without running statistics cannot be folded")
        running_mean.lerp_(mean, self.momentum)
        running_var.lerp_(variance, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def synchronise_norms(network: FlatNet) -> None:
    """Replace every batch norm of a fresh network by one over all processes."""
    for module in list(network.modules()):
        for name, norm in list(module.named_children()):
            if isinstance(norm, BatchNorm):
                synced = SyncedBatchNorm(norm.num_features, network.config.bn_momentum)
                synced.weight.requires_grad = norm.weight.requires_grad
                module.register_module(name, synced)
