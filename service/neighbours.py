"""The server's other processes, as one of them sees them: whether any has work to do."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import struct
from time import monotonic
from typing import TYPE_CHECKING

from service.shared import reserve

if TYPE_CHECKING:
    from pathlib import Path

_SLOTS = 512  # twice as many as there can be workers: those that leave and their successors
_SIZE = 8  # bytes of a double
# Seconds for which one that has answered may be expected to be asked again at once.
LINGER = 0.001


class Neighbours:
    """A time in shared memory for each process: when it last had requests to answer.

    It is infinity while there are some, and 0 where there never was a process. What another one
    says may be outdated by the time it is read: it decides how fast a request is answered, never
    what is answered.

    Args:
        folder: exists, and is seen by all processes of the server and by nobody else.

    Raises:
        FlatfoldError: the disk has no room for it.
    """

    def __init__(self, folder: Path) -> None:
        import fcntl  # noqa: PLC0415 (there are several processes only where it exists)

        reserve(folder / "working", _SLOTS * _SIZE)
        self._file = os.open(folder / "working", os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, _SLOTS * _SIZE)
        for slot in range(_SLOTS):
            try:  # the kernel gives a slot back when its process ends, however that ends
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except OSError:
                continue
            break
        self._slot = slot
        self._times = memoryview(mmap.mmap(self._file, _SLOTS * _SIZE)).cast("d")
        self.working(False)  # whoever had the slot before may have been killed at work

    def working(self, working: bool) -> None:
        """Tell the others whether this process has requests to answer."""
        self._times[self._slot] = math.inf if working else monotonic()

    def idle(self) -> bool:
        """Whether no other process has any, nor had until just now."""
        recently = monotonic() - LINGER
        for slot, last in enumerate(self._times):
            if last > recently and slot != self._slot:
                return False
            if last == 0:
                break  # slots are taken in turn: nobody has had the next ones
        return True


def forget_the_dead(folder: Path) -> None:
    """Take those that ended at work for idle: their places may never be taken again.

    To be called by a process that is none of the neighbours: it would lose its own place.
    """
    import fcntl  # noqa: PLC0415 (see above)

    with contextlib.suppress(FileNotFoundError), (folder / "working").open("r+b", 0) as file:
        for slot, (last,) in enumerate(struct.iter_unpack("d", file.read())):
            if last == math.inf:
                with contextlib.suppress(OSError):  # it is alive
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
                    os.pwrite(file.fileno(), struct.pack("d", monotonic()), slot * _SIZE)
