"""Memory of big tensors: how many pictures fit in a call, keeping it, and telling of too little."""

from __future__ import annotations

import contextlib
import ctypes
import re
from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError
from training.data import SIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT = 2**31 - 1  # bytes free at the heap's end that are kept: all that the call can say
_GROWN_BY = 256 << 20  # bytes

# So say PyTorch, on CPUs with nothing but a RuntimeError, on GPUs, and NumPy.
_WANTED = re.compile(r"(?:tried|unable) to allocate ([\d.]+ \w+)", re.IGNORECASE)


class MemoryShortError(FlatfoldError):
    """The system, or the GPU, has no memory left for the pictures of a call."""


@contextlib.contextmanager
def telling_shortage() -> Iterator[None]:
    """Raise a MemoryShortError where the block asks for more memory than there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        wanted = _WANTED.search(str(error))
        if wanted is None:
            raise
        raise MemoryShortError(
            f"out of memory: {wanted[1]} more were needed; "
            "give a smaller --batch-size, or use smaller or fewer pictures"
        ) from error


def pictures_at_once(most: int, height: int, width: int) -> int:
    """Return how many pictures a call takes: `most` of CIFAR-10's size, fewer of a larger one."""
    return max(1, min(most, most * SIDE**2 // (height * width)))


def keep_freed_pages() -> None:
    """Let freed memory serve the next step: a training step frees and asks for the same sizes.

    By default glibc maps each tensor of some megabytes anew, and the system then clears its pages
    again, thousands of times a second. Elsewhere than on glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_TOP_PAD, _GROWN_BY)
