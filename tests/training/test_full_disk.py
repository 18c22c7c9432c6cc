"""A disk that fills up in the middle of a run: an error that names the file, and nothing lost."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from flatfold.contract.errors import FlatfoldError
from tests.training.small import Recorder, shades, tiny_recipe
from training import state
from training.loop import Trainer
from training.precision import choose_compute
from training.progress import JsonLines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

resource = pytest.importorskip("resource", reason="file size limits are POSIX's")


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: the nearest to a full disk that needs no privilege."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def trainer() -> Trainer:
    recipe = tiny_recipe("fast")
    return Trainer(recipe, shades(96), shades(16), seed=0, compute=choose_compute("cpu", "fp32"))


def test_the_state_of_the_last_epoch_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    first = trainer()
    with contextlib.ExitStack() as full:

        class Filler(Recorder):
            def epoch(self, record: dict[str, object]) -> None:
                full.enter_context(largest_file(4096))

        with pytest.raises(FlatfoldError, match=r"cannot write .*state\.safetensors.*too large"):
            first.run(path, Filler())

    assert [found.name for found in tmp_path.iterdir()] == ["state.safetensors"]
    assert state.read_progress(path)["next_epoch"] == 1
    second = trainer()
    second.resume(path)
    second.run(path, Recorder())
    assert state.read_progress(path)["next_epoch"] == 3


def test_a_log_that_cannot_grow_is_named(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl", [{"epoch": 1}])
    with largest_file(16), pytest.raises(FlatfoldError, match=r"cannot write .*log\.jsonl"):
        log.epoch({"epoch": 2, "padding": "x" * 100})
