"""What the processor can do with bytes."""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Dot products of bytes that sum in 32 bits: x86's VNNI in both encodings, Arm's dot product.
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}


def has_dot_products() -> bool:
    """Whether sums of byte products cannot overflow here; unknown processors count as unable."""
    words = _words()
    return bool(words & DOT_PRODUCTS) or platform.machine() == "arm64"


def cpu_name() -> str:
    """Return the processor's name, or the architecture's where there is none."""
    for line in _lines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _words() -> set[str]:
    for line in _lines():
        if line.startswith(("flags", "Features")):
            return set(line.partition(":")[2].split())
    return set()


def _lines() -> list[str]:
    return _CPUINFO.read_text().splitlines() if _CPUINFO.exists() else []
