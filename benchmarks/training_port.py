"""A scratch port of another recipe, timed in a process of its own: see `training_speed`."""

from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

PICTURES = 50_000


class Port:
    """The other recipe, in a process of its own.

    Args:
        path: the scratch port.
        threads: PyTorch's threads.
    """

    def __init__(self, path: Path, threads: int) -> None:
        module = load_port(path)
        self.steps_per_epoch: int = module.STEPS_PER_EPOCH
        self.epochs: int = module.EPOCHS
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _build, (path, threads))

    def time(self, steps: int) -> list[float]:
        """Return the seconds of `steps` steps."""
        return self._process.submit(_time_built, steps).result()

    def close(self) -> None:
        """End the process; Python's own end races with it."""
        self._process.shutdown()


_built: list[Callable[[], object]] = []  # in the port's process: its step


def _build(path: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    _built.append(load_port(path).build(*random_pictures()))


def _time_built(steps: int) -> list[float]:
    return time_steps(_built[0], steps)


def load_port(path: Path) -> ModuleType:
    """Import the scratch port at `path`."""
    spec = importlib.util.spec_from_file_location("port", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 (50000, 32, 32, 3) and int64 (50000,): speed does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (PICTURES, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (PICTURES,), generator=generator)


def time_steps(step: Callable[[], object], steps: int) -> list[float]:
    """Return the seconds of `steps` calls of `step`, after one that is not counted."""
    step()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return seconds
