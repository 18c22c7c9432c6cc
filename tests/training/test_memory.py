"""Freed tensors' pages serve the next ones, and a shortage is told."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from training.memory import MemoryShortError, pictures_at_once, telling_shortage

PROGRAM = """
import resource
import torch
from training.memory import keep_freed_pages

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(16 << 20)  # 64 MB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if {keep}:
    keep_freed_pages()
for _ in range(8):  # until the heap has places for all
    faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is meant")
@pytest.mark.parametrize(("keep", "few"), [(True, True), (False, False)])
def test_a_tensor_of_the_same_size_needs_no_new_pages(keep, few):
    program = PROGRAM.format(keep=keep)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (int(done.stdout) < 1000) is few


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(32, 32, 500), (9, 9, 500), (64, 32, 250), (224, 224, 10), (5000, 5000, 1)],
)
def test_a_call_takes_as_many_pictures_as_have_the_pixels_of_those_of_cifar10(
    height: int, width: int, count: int
) -> None:
    assert pictures_at_once(500, height, width) == count


@pytest.mark.parametrize(
    ("allocate", "wanted"),
    [
        (lambda: torch.empty(1 << 50), "4503599627370496 bytes"),
        (lambda: np.empty(1 << 52, np.uint8), r"4\.00 PiB"),
    ],
)
def test_too_little_memory_is_told_with_what_to_do(allocate, wanted):
    with pytest.raises(MemoryShortError, match=f"{wanted} more .*--batch-size"), telling_shortage():
        allocate()


def test_a_gpus_shortage_is_told_likewise():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has")
    with pytest.raises(MemoryShortError, match=r"20\.00 MiB more"), telling_shortage():
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), telling_shortage():
        raise RuntimeError("shapes differ")
