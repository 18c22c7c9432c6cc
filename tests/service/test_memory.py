from pathlib import Path

import pytest

from service.memory import give_back


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_freed_memory_goes_back_to_the_system():
    # Too small for mappings of their own, and written to, so that they are really there.
    blocks = [bytearray(b"x" * 100_000) for _ in range(1000)]
    keeper = bytearray(b"x" * 100_000)
    full = resident()
    del blocks
    give_back()
    assert full - resident() > 80_000_000
    assert keeper
