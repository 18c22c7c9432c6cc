"""How many rows go into one call of the runtime, where the settings leave it open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flatfold.contract.errors import FlatfoldError

if TYPE_CHECKING:
    from collections.abc import Callable

# On a CPU more rows add waiting and memory, and no throughput (docs/serving-choices.md).
ON_CPU = 16
MOST = 256
# A row has to get cheaper by this factor for twice as many to be worth their waiting and memory.
WORTHWHILE = 1.1


class BatchError(FlatfoldError):
    """A batch of this size does not run."""


def worthwhile_batch(seconds: Callable[[int], float]) -> int:
    """Return the batch size that keeps a device busy: doubled as long as rows get cheaper by it.

    Args:
        seconds: batch size -> seconds that it takes. A BatchError, of a device whose memory is
            full for example, ends the search; for the first size it is the caller's.

    Returns:
        A power of two from `ON_CPU` to `MOST`.
    """
    size, cost = ON_CPU, seconds(ON_CPU) / ON_CPU
    while size < MOST:
        try:
            cheaper = seconds(2 * size) / (2 * size)
        except BatchError:
            break
        if cheaper * WORTHWHILE > cost:
            break
        size, cost = 2 * size, cheaper
    return size
