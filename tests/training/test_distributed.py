"""Two processes under torchrun over gloo, against one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import distributed

from tests.training.class_folders import paint
from tests.training.command_line import finish, history, start, tensors, train_command
from training.distributed import (
    ALONE,
    LostProcessError,
    Ranks,
    SyncedBatchNorm,
    joined,
    local_device,
)
from training.network import BatchNorm

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = torch.device("cpu")
TORCHRUN = "-m torch.distributed.run --standalone --nproc-per-node 2"


def test_two_processes_end_where_one_does(tmp_path: Path) -> None:
    pictures = paint(tmp_path / "pictures", {"rose": 30, "grass": 30})
    # SGD, the proxy network and lookahead; Muon magnifies the rounding of almost-zero gradients.
    settings = ("--preset", "best")
    finish(start(train_command(pictures, tmp_path / "one", *settings)))
    two = train_command(
        pictures, tmp_path / "two", *settings, "--sync-batch-norm", launcher=TORCHRUN
    )
    said = finish(start(two))

    assert said.count("epoch 1/") == 1, "only the first process speaks"
    for one, both in zip(history(tmp_path / "one"), history(tmp_path / "two"), strict=True):
        assert one == pytest.approx(both, rel=1e-4)
    expected, found = tensors(tmp_path / "one"), tensors(tmp_path / "two")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.abs(found[name] - value).max() <= 1e-4 * np.abs(value).max(), name


def test_a_process_left_alone_says_so_in_one_line(tmp_path: Path) -> None:
    pictures = paint(tmp_path / "pictures", {"rose": 30, "grass": 30})
    (tmp_path / "run" / "log.jsonl").mkdir(parents=True)  # what the first process writes, fails
    process = start(train_command(pictures, tmp_path / "run", launcher=TORCHRUN))
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert said.count("log.jsonl: it is a folder") == 1
    assert "[rank1]" not in said, "no traceback of the other"


def test_shares_are_the_whole_batch_once() -> None:
    batch = torch.arange(7)
    shares = [Ranks(rank, 3).share(batch) for rank in range(3)]
    assert torch.cat(shares).sort().values.equal(batch)
    assert ALONE.share(batch) is batch


def test_alone_nothing_is_joined_or_summed() -> None:
    with joined(torch.device("cpu"), sync_norms=True) as ranks:
        assert ranks == ALONE
        assert ranks.total(2.0, 3) == (2.0, 3)
        assert ranks.first
    assert local_device("auto") == "auto"


@pytest.fixture
def torchrun_of_one(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Look as if torchrun had started this process alone; return the barriers passed."""
    settings = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in ({"TORCHELASTIC_RUN_ID": "test"} | settings).items():
        monkeypatch.setenv(name, value)
    passed: list[str] = []
    barrier = distributed.barrier

    def counted() -> None:
        barrier()
        passed.append("barrier")

    monkeypatch.setattr(distributed, "barrier", counted)
    return passed


def test_all_leave_together_when_the_block_ends_well(torchrun_of_one: list[str]) -> None:
    with joined(torch.device("cpu"), sync_norms=False):
        assert torchrun_of_one == []
    assert torchrun_of_one == ["barrier"]
    assert not distributed.is_initialized()


def test_a_failure_waits_for_nobody(torchrun_of_one: list[str]) -> None:
    with pytest.raises(RuntimeError), joined(torch.device("cpu"), sync_norms=False):
        raise RuntimeError
    assert torchrun_of_one == []
    assert not distributed.is_initialized()


@pytest.mark.usefixtures("torchrun_of_one")
def test_what_gloo_says_of_a_lost_process_is_told() -> None:
    gone = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:13749"
    wanted = "another process of this run ended"
    with pytest.raises(LostProcessError, match=wanted), joined(CPU, sync_norms=False):
        raise RuntimeError(gone)


THREADS_LEFT = """
from pathlib import Path
import torch
from tests.training.small import tiny_recipe
from training.distributed import joined
from training.network import FlatNet
from training.optimisers import build_optimisers

def train(ends_well):
    recipe = tiny_recipe()
    with joined(torch.device("cpu"), sync_norms=False) as ranks:
        network = FlatNet(recipe.network)
        build_optimisers(network, recipe)
        wrapped = torch.nn.parallel.DistributedDataParallel(network)
        wrapped(torch.zeros(4, 3, 12, 12)).sum().backward()
        if not ends_well:
            raise ValueError
        del wrapped

def threads():
    return {comm.read_text().strip() for comm in Path("/proc/self/task").glob("*/comm")}

try:
    train(ENDS_WELL)
except ValueError:
    pass
print("left:", [name for name in threads() if "gloo" in name])
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads' names are Linux's")
@pytest.mark.parametrize("ends_well", [True, False])
@pytest.mark.usefixtures("torchrun_of_one")
def test_no_thread_of_the_group_outlives_it(*, ends_well: bool) -> None:
    # In a process of its own: what PyTorch imports only after the group is made matters.
    script = THREADS_LEFT.replace("ENDS_WELL", str(ends_well))
    assert finish(start([sys.executable, "-c", script])).splitlines()[-1] == "left: []"


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
def test_the_synced_norm_is_the_plain_one_when_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = 3 + 2 * torch.randn((6, 4, 5, 5), generator=generator)
    weights = torch.randn((6, 4, 5, 5), generator=generator)
    answers = []
    for norm in (BatchNorm(4, 0.3), SyncedBatchNorm(4, 0.3)):
        x = pictures.clone().requires_grad_()
        y = norm(x)
        torch.autograd.backward((y * weights).sum())
        answers.append((y, x.grad, norm.bias.grad, *norm.state_dict().values(), norm.eval()(x)))
    for plain, synced in zip(*answers, strict=True):
        torch.testing.assert_close(synced, plain)
